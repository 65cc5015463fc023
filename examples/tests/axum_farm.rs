//! Three axum servers in three processes, each with its device on its own interfaces, under a real client and a browser. Says so and
//! does nothing where a program or a right is missing.

#![allow(missing_docs, reason = "a test")]

#[path = "common/browser.rs"]
mod browser;
mod common;
#[path = "common/site.rs"]
mod site;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{available, example};
use ipos_lab::{Farm, FarmPlan, Lan, Namespace, Server};
use nix::sys::signal::Signal;
use serde_json::Value;
use site::{Running, curl, directory, ports, url, wait_until};

/// A request whose connection has not moved before it is asked again on another one.
const TRIES: usize = 100;

fn log(directory: &Path, server: &Server) -> PathBuf {
    directory.join(format!("{}.err", server.name()))
}

fn configure(directory: &Path, server: &Server, more: &str) -> PathBuf {
    let file = directory.join(format!("{}.toml", server.name()));
    let listen = format!(
        "\n[[listen]]\naddress = \"{}:80\"\n{more}",
        server.address(Lan::A)
    );
    fs::write(&file, ports(server) + &listen).unwrap();
    file
}

fn command(file: &Path) -> Command {
    let mut command = Command::new(example("axum_farm"));
    command.arg("--config").arg(file);
    command
}

/// What one connection is answered, request by request.
fn ask(client: &Namespace, server: &Server, paths: &[&str]) -> Vec<Value> {
    let urls: Vec<String> = paths.iter().map(|path| url(server, path)).collect();
    let mut arguments = vec!["--write-out", "\n"];
    arguments.extend(urls.iter().map(String::as_str));
    let answers = curl(client, &arguments);
    let answers: Vec<Value> = (answers.lines().filter(|line| !line.is_empty()))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), paths.len());
    answers
}

#[test]
fn three_processes_serve_one_site() {
    if !available("three_processes_serve_one_site", &["curl"]) {
        return;
    }
    let lab = Farm::build(FarmPlan::default()).unwrap();
    let (servers, client) = (lab.servers(), lab.client());
    let directory = directory();
    let at = directory.path();
    let start = |server: &Server| {
        let file = configure(at, server, "");
        Running::start(server.namespace(), command(&file), &log(at, server))
    };
    let running: Vec<Running> = servers.iter().map(start).collect();
    wait_until("all servers see each other", || {
        servers.iter().all(|server| {
            let told = fs::read_to_string(log(at, server)).unwrap();
            told.matches("server up").count() >= servers.len() - 1
        })
    });

    let first = &servers[0];
    let visited = (0..TRIES).find_map(|_| {
        let answers = ask(client, first, &["/go/s2", "/visit"]);
        let moved = answers[0]["server"] == "s1" && answers[1]["server"] == "s2";
        moved.then(|| answers[1].clone())
    });
    let visited = visited.expect("no connection has moved");
    assert_eq!(visited["reached"], format!("{}:80", first.address(Lan::A)));
    assert_eq!(visited["moved_from"], first.address(Lan::B).to_string());
    assert_eq!(visited["servers"], serde_json::json!(["s1", "s2", "s3"]));

    // A type of requests that the first server is not for.
    let elsewhere = (0..TRIES).any(|_| {
        let answers = ask(client, first, &["/album", "/album"]);
        answers[0]["server"] == "s1" && answers[1]["server"] != "s1"
    });
    assert!(elsewhere);

    let said = curl(client, &["--data", "good morning", &url(first, "/say")]);
    let by = serde_json::from_str::<Value>(&said).unwrap()["server"].clone();
    let shown = (0..TRIES).any(|_| {
        let board = &ask(client, first, &["/board"])[0];
        board["server"] == by && board["messages"][0]["text"] == "good morning"
    });
    assert!(shown, "{by} has a board of its own");
    let unknown = curl(client, &[&url(first, "/go/s9")]);
    assert_eq!(unknown, "there is no server s9, only s1, s2, s3 and any\n");

    a_browser_shows_who_has_answered(client, at, first);
    for running in running {
        assert!(running.end(Signal::SIGTERM).success());
    }
}

fn a_browser_shows_who_has_answered(client: &Namespace, directory: &Path, server: &Server) {
    let Some(browser) = browser::installed("a_browser_shows_who_has_answered") else {
        return;
    };
    let profile = format!("--user-data-dir={}", directory.join("page").display());
    let url = url(server, "/");
    let mut command = Command::new(browser);
    command.args(browser::arguments(&profile, &url));
    let shown = client.run(|| command.output()).unwrap().unwrap();
    let page = String::from_utf8_lossy(&shown.stdout);
    for text in [
        "go to s2</button>",
        "Your browser has connected to 10.77.0.11:80",
        " requests.</p>",
    ] {
        assert!(page.contains(text), "no {text} in\n{page}");
    }
    let name = |name: &&str| page.contains(&format!("<span id=\"server\">{name}</span>"));
    assert!(["s1", "s2", "s3"].iter().any(name), "{page}");
}

#[test]
fn an_address_of_the_application_is_refused() {
    if !available("an_address_of_the_application_is_refused", &[]) {
        return;
    }
    let lab = Farm::build(FarmPlan {
        servers: 1,
        ..FarmPlan::default()
    })
    .unwrap();
    let directory = directory();
    for (more, named) in [
        (
            "app = \"127.0.0.1:8080\"\n",
            "listen[0].app: the application is in this program",
        ),
        (
            "protocol = \"udp\"\n",
            "listen[0].protocol: the application is in this program",
        ),
        (
            "proxy_protocol = true\n",
            "listen[0].proxy_protocol: the application is in this program",
        ),
    ] {
        let file = configure(directory.path(), &lab.servers()[0], more);
        let output = command(&file).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), told.lines().count()),
            (Some(2), 1),
            "{told}"
        );
        assert!(told.contains(named), "{told}");
    }
}
