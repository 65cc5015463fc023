//! The applications: nginx as it is packaged, which answers with its server's name.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use ipos_lab::{Lan, Namespace, Server};

use crate::site::{self, Running};

/// Assets of each kind that the page has.
pub const ASSETS: usize = 10;
/// Kinds of assets: directory, host and the server that the URL map names for it.
pub const KINDS: [(&str, &str, &str); 3] = [
    ("js", "js.site.example", "s1"),
    ("img", "img.site.example", "s2"),
    ("css", "css.site.example", "s3"),
];

/// The configuration file of a device: HTTP/1.1 at port 80, HTTP/2 at 81, TLS at 443, and all that selects by content.
pub fn configuration(server: &Server) -> String {
    let address = server.address(Lan::A);
    let listen = [(80, 8080), (81, 8081), (443, 8443)].map(|(port, app)| {
        format!("[[listen]]\naddress = \"{address}:{port}\"\napp = \"127.0.0.1:{app}\"\n")
    });
    let hosts = KINDS.map(|(_, host, server)| {
        format!("[[url_map]]\nhost = \"{host}\"\nservers = [\"{server}\"]\n")
    });
    site::ports(server)
        + &listen.concat()
        + &hosts.concat()
        + r#"
[[url_map]]
path = "/api"
servers = ["s3"]

[[url_map]]
path = "/api/images/"
servers = ["s2"]

[[url_map]]
host = "group.example"
servers = ["s1", "s2"]

[[ssl_map]]
sni = "a.shop.example"
servers = ["s2"]

[[ssl_map]]
sni = "*.shop.example"
servers = ["s3"]

[ssl]
affinity = true

[session]
cookie = "IPOSSESSION"
max_age_s = 600
direct = "X-IpOS-Server"

[health]
interval_ms = 100

[admin]
"#
}

/// Starts nginx.
pub fn nginx(server: &Server, directory: &Path) -> Running {
    let www = directory.join("www");
    for (kind, _, _) in KINDS {
        fs::create_dir_all(www.join(kind)).unwrap();
        for at in 0..ASSETS {
            let (name, text) = asset(kind, at);
            fs::write(www.join(kind).join(name), text).unwrap();
        }
    }
    fs::write(www.join("page.html"), page()).unwrap();
    certificate(server.namespace(), server.name(), directory);
    let file = directory.join("nginx.conf");
    fs::write(&file, nginx_configuration(server.name(), directory)).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file);
    command.arg("-e").arg(directory.join("error.log"));
    site::start_nginx(server, command, directory)
}

/// A key, and a certificate for the server's name: a TLS client sees who answers.
fn certificate(namespace: &Namespace, name: &str, directory: &Path) {
    let mut command = Command::new("openssl");
    command
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")])
        .arg("-keyout")
        .arg(directory.join("key.pem"))
        .arg("-out")
        .arg(directory.join("cert.pem"))
        .stderr(Stdio::null());
    let output = site::output(namespace, &mut command);
    assert!(output.status.success(), "{output:?}");
}

fn asset(kind: &str, at: usize) -> (String, String) {
    let text = match kind {
        "js" => format!("window.scripts = (window.scripts || 0) + 1; // {at}\n"),
        "img" => "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"/>\n".into(),
        _ => format!(".c{at} {{ color: #0000{at}0; }}\n"),
    };
    let suffix = if kind == "img" { "svg" } else { kind };
    (format!("{at}.{suffix}"), text)
}

/// A page with all assets, each at its kind's host. When they are there it asks ten times, on a connection of its own each
/// time, who answers.
fn page() -> String {
    let tags = KINDS.map(|(kind, host, _)| {
        let tag = |at| {
            let (name, _) = asset(kind, at);
            let url = format!("http://{host}/{kind}/{name}");
            match kind {
                "js" => format!("<script src=\"{url}\" onload=\"loaded()\"></script>\n"),
                "img" => format!("<img src=\"{url}\" onload=\"loaded()\">\n"),
                _ => format!("<link rel=\"stylesheet\" href=\"{url}\" onload=\"loaded()\">\n"),
            }
        };
        (0..ASSETS).map(tag).collect::<String>()
    });
    format!(
        r#"<!DOCTYPE html>
<title>page</title>
<script>
let count = 0;
async function loaded() {{
    count += 1;
    if (count < {all}) return;
    let names = [];
    for (let at = 0; at < 10; at += 1) {{
        names.push(await (await fetch("/name/" + at)).text());
    }}
    document.getElementById("told").textContent = "assets=" + count + " names=" + names.join(",");
}}
</script>
{tags}<p id="told"></p>
"#,
        all = KINDS.len() * ASSETS,
        tags = tags.concat(),
    )
}

fn nginx_configuration(name: &str, directory: &Path) -> String {
    let directory = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {directory}/{kind};\n"))
        .concat();
    format!(
        r#"
daemon off;
master_process off;
user root root;
worker_processes 1;
pid {directory}/nginx.pid;
events {{}}
http {{
    types {{
        text/html html;
        text/css css;
        text/javascript js;
        image/svg+xml svg;
    }}
    log_format asked '$host $uri $cookie_IPOSSESSION';
    access_log {directory}/access.log asked;
{temporary}    server {{
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8081 http2;
        listen 127.0.0.1:8443 ssl http2;
        ssl_certificate {directory}/cert.pem;
        ssl_certificate_key {directory}/key.pem;
        root {directory}/www;
        location / {{
            try_files $uri @name;
        }}
        location /name/ {{
            keepalive_timeout 0;
            return 200 {name};
        }}
        location @name {{
            return 200 {name};
        }}
    }}
}}
"#
    )
}
