//! What `toml` says of a configuration file, in one line, and what to write instead where that is not plain.

/// The message of an error.
pub(crate) fn of(error: &toml::de::Error) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join("; ");
    match instead(&message) {
        Some(instead) => format!("{message}: {instead}"),
        None => message,
    }
}

fn instead(message: &str) -> Option<&'static str> {
    Some(match message {
        "invalid IPv4 address syntax" => "four numbers, as in `10.77.0.11`",
        "invalid IPv4 socket address syntax" => "an address and a port, as in `10.77.0.11:80`",
        "invalid socket address syntax" => "an address and a port, as in `127.0.0.1:8080`",
        "invalid type: map, expected a sequence" => {
            "there may be several: double brackets, as in `[[listen]]`"
        }
        message if message.ends_with(", expected a sequence") => "a list: `[\"…\", \"…\"]`",
        _ => return None,
    })
}
