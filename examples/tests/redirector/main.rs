//! A redirector beside three unmodified nginx behind three `inic` processes; unmodified clients: curl and dig. Needs the right
//! to make network namespaces, nginx, curl and dig; says so and does nothing without.

#![allow(missing_docs, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/site.rs"]
mod site;

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use ipos_lab::{Farm, FarmPlan, Lan, Namespace, PREFIX, Server};
use nix::sys::signal::Signal;
use site::{Running, Site, all_see_all, configuration, curl, nginx_sites, output, wait_until};

const PROGRAMS: [&str; 3] = ["nginx", "curl", "dig"];
const NAME: &str = "www.firstsite.com";
/// After a death.
const REQUESTS: usize = 9;

/// The redirector's configuration file.
fn redirector(address: Ipv4Addr) -> String {
    format!(
        r#"
[synch]
interface = "{synch}"
interval_ms = 500

[[http]]
listen = "{address}:80"

[[group]]
host = "{NAME}"
service = "tcp/80"

[[group]]
service = "nobody"

[dns]
listen = "{address}:53"

[[dns.name]]
name = "{NAME}"
service = "tcp/80"

[balance]
slow_start_ms = 0
"#,
        synch = Lan::Synch.interface()
    )
}

#[test]
fn clients_are_sent_to_live_servers() {
    if !common::available("clients_are_sent_to_live_servers", &PROGRAMS) {
        return;
    }
    let root = site::directory();
    let big = root.path().join("big.bin");
    fs::write(&big, "").unwrap();
    let farm = Farm::build(FarmPlan {
        servers: 4,
        ..FarmPlan::default()
    })
    .unwrap();
    let (beside, servers) = farm.servers().split_last().unwrap();
    for lan in [Lan::A, Lan::Synch] {
        let (interface, address) = (lan.interface(), beside.address(lan));
        let namespace = beside.namespace();
        namespace.add_address(interface, address, PREFIX).unwrap();
    }
    let file = root.path().join("redirector.toml");
    fs::write(&file, redirector(beside.address(Lan::A))).unwrap();
    let running = start(beside, &file);

    let asking = Asking {
        client: farm.client(),
        redirector: beside.address(Lan::A),
    };
    // Nobody is there yet.
    wait_until("the redirector listens", || asking.status(NAME) == "503");
    assert_eq!(asking.dig(&["A"]).0, "SERVFAIL");

    let mut sites = nginx_sites(servers, root.path(), &big, configuration);
    wait_until("the servers see each other", || all_see_all(&sites));
    let addresses = servers.iter().map(|server| server.address(Lan::A));
    let addresses: BTreeSet<_> = addresses.map(|address| address.to_string()).collect();
    let urls = |of: &BTreeSet<String>| -> BTreeSet<String> {
        of.iter()
            .map(|address| format!("http://{address}/"))
            .collect()
    };
    // The redirector is none of them.
    for site in &sites {
        assert_eq!(site.logged("server up"), servers.len() - 1);
    }
    wait_until("all servers are told", || asking.dig(&["A"]).1.len() == 3);
    let places = asking.places();
    assert_eq!(
        places.iter().cloned().collect::<BTreeSet<_>>(),
        urls(&addresses)
    );
    assert_eq!(asking.places(), places, "in turn");
    let (status, told) = asking.dig(&["A"]);
    assert_eq!(status, "NOERROR");
    assert_eq!(told.iter().cloned().collect::<BTreeSet<_>>(), addresses);
    assert_eq!(asking.dig(&["A", "+tcp"]).1.len(), 3);
    assert_eq!(asking.dig(&["AAAA"]), ("NOERROR".into(), vec![]));
    // A body goes along.
    asking.puts_a_file(&sites, root.path());
    // Without a group, without a server.
    assert_eq!(asking.status("www.secondsite.com"), "503");

    // Whoever has died is not told once its silence is noticed.
    sites[1].end_inic(Signal::SIGKILL);
    let logged = |text: &str| {
        let log = fs::read_to_string(log_file(&file)).unwrap();
        log.lines().filter(|line| line.contains(text)).count()
    };
    wait_until("silence is noticed", || {
        logged("server down server=\"s2\"") == 1
    });
    let dead = servers[1].address(Lan::A).to_string();
    let left: BTreeSet<_> = addresses.iter().filter(|a| **a != dead).cloned().collect();
    for _ in 0..3 {
        assert_eq!(
            asking.dig(&["A"]).1.into_iter().collect::<BTreeSet<_>>(),
            left
        );
    }
    let locations: BTreeSet<_> = (0..REQUESTS).map(|_| asking.location()).collect();
    assert_eq!(locations, urls(&left));

    // One that leaves says so: it is not told at once.
    assert_eq!(sites[2].end_inic(Signal::SIGTERM).code(), Some(0));
    wait_until("the farewell is heard", || {
        logged("server down server=\"s3\"") == 1
    });
    assert_eq!(
        asking.dig(&["A"]).1,
        [servers[0].address(Lan::A).to_string()]
    );

    sites[1].start_inic();
    wait_until("it is told again", || asking.dig(&["A"]).1.contains(&dead));
    assert_eq!(running.end(Signal::SIGTERM).code(), Some(0));
    assert_eq!((logged("redirector down"), logged("panicked")), (1, 0));
}

fn log_file(configuration: &Path) -> std::path::PathBuf {
    configuration.with_extension("err")
}

fn start(beside: &Server, file: &Path) -> Running {
    let mut command = Command::new(common::example("redirector"));
    command.arg("--config").arg(file);
    Running::start(beside.namespace(), command, &log_file(file))
}

/// A client and whom it asks.
struct Asking<'a> {
    client: &'a Namespace,
    redirector: Ipv4Addr,
}

impl Asking<'_> {
    fn url(&self) -> String {
        format!("http://{}/", self.redirector)
    }

    /// curl's `-w` about a request for a host; empty if nobody listens.
    fn about(&self, host: &str, what: &str) -> String {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--max-time",
            "50",
            "-o",
            "/dev/null",
            "-w",
            what,
        ]);
        command.args(["-H", &format!("Host: {host}"), &self.url()]);
        String::from_utf8(output(self.client, &mut command).stdout).unwrap()
    }

    fn status(&self, host: &str) -> String {
        self.about(host, "%{http_code}")
    }

    fn location(&self) -> String {
        self.about(NAME, "%{redirect_url}")
    }

    /// Where as many requests as there are servers go, one after the other, and that each is answered there. Which server
    /// answers is another matter: the farm may move the connection.
    fn places(&self) -> Vec<String> {
        let host = format!("Host: {NAME}");
        let about = "\n%{num_redirects} %{url_effective}";
        let ask = || {
            let told = curl(self.client, &["-L", "-H", &host, "-w", about, &self.url()]);
            let (server, about) = told.split_once('\n').unwrap();
            assert!(["s1", "s2", "s3"].contains(&server), "{told}");
            about.strip_prefix("1 ").expect("one redirect").to_owned()
        };
        (0..3).map(|_| ask()).collect()
    }

    /// dig's status and the answers in brief.
    fn dig(&self, arguments: &[&str]) -> (String, Vec<String>) {
        let mut command = Command::new("dig");
        command.arg(format!("@{}", self.redirector)).arg(NAME);
        command
            .args(["+noall", "+comments", "+answer", "+norecurse"])
            .args(arguments);
        let Output { stdout, .. } = output(self.client, &mut command);
        let text = String::from_utf8(stdout).unwrap();
        let status = text
            .split_once("status: ")
            .and_then(|(_, rest)| rest.split_once(','));
        let records = text.lines().filter(|line| line.starts_with(NAME));
        let last = records.filter_map(|line| line.split_whitespace().last());
        (
            status
                .map(|(status, _)| status.to_owned())
                .unwrap_or_default(),
            last.map(str::to_owned).collect(),
        )
    }

    /// 307: the method and the body stay.
    fn puts_a_file(&self, sites: &[Site], directory: &Path) {
        let bytes = site::noise(3_000_000, 3);
        let file = directory.join("up.bin");
        fs::write(&file, &bytes).unwrap();
        let target = format!("{}upload/up.bin", self.url());
        let host = format!("Host: {NAME}");
        let file = file.to_str().unwrap();
        let code = curl(
            self.client,
            &[
                "-L",
                "-T",
                file,
                "-H",
                &host,
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                &target,
            ],
        );
        assert_eq!(code, "201");
        let taken = sites.iter().filter(|site| {
            let at = directory.join(site.server.name()).join("www/upload/up.bin");
            fs::read(at).is_ok_and(|taken| taken == bytes)
        });
        assert_eq!(taken.count(), 1);
    }
}

/// Without a farm: it is asked by name whether it has read its key, and goes on.
#[test]
fn sighup_reads_the_key_again() {
    let root = site::directory();
    let file = root.path().join("redirector.toml");
    let key = root.path().join("farm.key");
    let write_key = |key_text: &str| {
        fs::write(&key, key_text.repeat(32)).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let text = format!(
        "synch = {{ interface = \"lo\", port = {port} }}\nhttp = [{{ listen = \"127.0.0.1:{port}\" }}]\n\
         group = [{{ service = \"web\" }}]\nsecurity = {{ farm_key_file = \"farm.key\" }}\n"
    );
    fs::write(&file, text).unwrap();
    write_key("01");
    let log = log_file(&file);
    let mut child = Command::new(common::example("redirector"))
        .arg("--config")
        .arg(&file)
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let reload = |expected: &str| {
        nix::sys::signal::kill(pid, Signal::SIGHUP).unwrap();
        wait_for_line(&log, expected);
    };
    wait_for_line(&log, "redirector up");
    reload("reloaded: nothing has changed");
    write_key("02");
    reload("reloaded: security.farm_key_file");
    write_key("no key");
    reload("not reloaded, everything stays as it was");
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn wait_for_line(log: &Path, expected: &str) {
    wait_until(expected, || {
        fs::read_to_string(log).is_ok_and(|log| log.contains(expected))
    });
}

/// What is wrong with the file or the host is one line, and exit status 2; `--check` opens nothing.
#[test]
fn bad_input_is_one_line() {
    let root = site::directory();
    let file = root.path().join("redirector.toml");
    let run = |text: &str, arguments: &[&str]| {
        fs::write(&file, text).unwrap();
        let mut command = Command::new(common::example("redirector"));
        let output = command.arg("--config").arg(&file).args(arguments).output();
        let output = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    // TEST-NET-1: not an address of this host.
    let good = redirector(Ipv4Addr::new(192, 0, 2, 1)).replace("\"c0\"", "\"lo\"");
    let (status, said, error) = run(&good, &["--check"]);
    assert_eq!((status, error.as_str()), (Some(0), ""));
    assert_eq!(said, format!("{}: ok\n", file.display()));
    for (text, expected) in [
        (
            good.replacen("listen", "listens", 1),
            "http[0].listens: unknown field",
        ),
        (
            good.replace("[dns]", "[dns]\nttl = \"x\""),
            "dns.ttl: invalid type: string \"x\"",
        ),
        (good.clone(), "http[0].listen: 192.0.2.1:80: "),
        (
            good.replace("\"lo\"", "\"lo77\""),
            "synch.interface: lo77: ",
        ),
    ] {
        let (status, said, error) = run(&text, &[]);
        assert_eq!(
            (status, said.as_str(), error.lines().count()),
            (Some(2), "", 1),
            "{error}"
        );
        let expected = format!("{}: {expected}", file.display());
        assert!(
            error.starts_with(&expected),
            "{error} instead of {expected}"
        );
    }
}
