//! The programs of a farm's tests: applications, `inic` and curl, each in its namespace.

#![allow(dead_code, reason = "no test needs all of it")]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ipos_lab::{Lan, Namespace, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Nothing of a test takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Rate of `/slow.bin`, in bytes a second.
pub const SLOW: usize = 1_000_000;
/// Lines of each log that a failure shows.
const SHOWN: usize = 30;

/// Waits until `done`.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A program that runs; it is ended when this is dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts `command` inside `namespace`, with its standard error in the file `log`.
    pub fn start(namespace: &Namespace, mut command: Command, log: &Path) -> Running {
        let log = File::options().create(true).append(true).open(log).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = namespace.run(|| command.spawn()).unwrap().unwrap();
        Running { child }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Sends `signal` and waits for the end.
    pub fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// A server of the farm: its files, its application, its device.
pub struct Site<'a> {
    pub server: &'a Server,
    directory: PathBuf,
    application: Option<Running>,
    inic: Option<Running>,
}

impl<'a> Site<'a> {
    /// Starts the application, and a device with this configuration file.
    pub fn start(
        server: &'a Server,
        root: &Path,
        configuration: &str,
        application: impl FnOnce(&Server, &Path) -> Running,
    ) -> Site<'a> {
        let directory = root.join(server.name());
        fs::create_dir_all(&directory).unwrap();
        let application = application(server, &directory);
        fs::write(directory.join("inic.toml"), configuration).unwrap();
        let mut site = Site {
            server,
            directory,
            application: Some(application),
            inic: None,
        };
        site.start_inic();
        site
    }

    pub fn start_inic(&mut self) {
        let mut command = Command::new(crate::common::example("inic"));
        command
            .arg("--config")
            .arg(self.directory.join("inic.toml"));
        // A new life, a new log.
        let _none = fs::remove_file(self.log_file());
        self.inic = Some(Running::start(
            self.server.namespace(),
            command,
            &self.log_file(),
        ));
    }

    /// Another configuration file, which the device has not read yet.
    pub fn configure(&self, text: &str) {
        fs::write(self.directory.join("inic.toml"), text).unwrap();
    }

    pub fn signal_inic(&self, signal: Signal) {
        self.inic.as_ref().expect("it runs").signal(signal);
    }

    pub fn end_inic(&mut self, signal: Signal) -> ExitStatus {
        self.inic.take().expect("it runs").end(signal)
    }

    pub fn start_application(&mut self, start: impl FnOnce(&Server, &Path) -> Running) {
        self.application = Some(start(self.server, &self.directory));
    }

    pub fn end_application(&mut self, signal: Signal) {
        self.application.take().expect("it runs").end(signal);
    }

    /// What the application has said in a log of its own.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory.join(file)).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("inic.err")
    }

    /// How many lines of the device's log contain `text`.
    pub fn logged(&self, text: &str) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Whether the device sees `server` alive, by the last that it has logged.
    pub fn sees(&self, server: &str) -> bool {
        let (up, down) = (
            format!("server up server={server}"),
            format!("server down server={server}"),
        );
        let log = self.log();
        let last = log
            .lines()
            .rev()
            .find(|line| line.ends_with(&up) || line.ends_with(&down));
        last.is_some_and(|line| line.ends_with(&up))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap()
    }
}

impl Drop for Site<'_> {
    /// A test that fails shows what the server said.
    fn drop(&mut self) {
        if thread::panicking() {
            for file in ["inic.err", "application.err", "error.log"] {
                let log = fs::read_to_string(self.directory.join(file)).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(SHOWN).collect();
                for line in last.iter().rev() {
                    eprintln!("{} {file}: {line}", self.server.name());
                }
            }
        }
    }
}

/// nginx, which serves the file `big`, behind a device for each server; `configure` makes its configuration file.
pub fn nginx_sites<'a>(
    servers: &'a [Server],
    root: &Path,
    big: &Path,
    configure: impl Fn(&Server) -> String,
) -> Vec<Site<'a>> {
    let start = |server| {
        Site::start(server, root, &configure(server), |server, directory| {
            nginx(server, directory, big)
        })
    };
    servers.iter().map(start).collect()
}

/// Whether every device sees every other one alive.
pub fn all_see_all(sites: &[Site]) -> bool {
    let names: Vec<_> = sites.iter().map(|site| site.server.name()).collect();
    sites.iter().all(|site| {
        names
            .iter()
            .all(|name| *name == site.server.name() || site.sees(name))
    })
}

/// Tries until the request is answered by another server than the first; which one, and how many tries it took.
pub fn migrated<'a, 'b>(
    sites: &'a [Site<'b>],
    mut request: impl FnMut(u16) -> String,
) -> (&'a Site<'b>, u16) {
    for attempt in 0..10 {
        let name = request(attempt);
        let site = sites
            .iter()
            .find(|site| site.server.name() == name)
            .unwrap_or_else(|| panic!("answered by {name:?}"));
        if site.server.name() != sites[0].server.name() {
            return (site, attempt);
        }
    }
    panic!("none of 10 connections moved");
}

/// Uploads `bytes`, kept in `file`, with one PUT to the first server that another one takes: what that one has is the same.
pub fn upload(client: &Namespace, sites: &[Site], file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).unwrap();
    let file = file.to_str().unwrap();
    let put = |attempt| {
        let target = url(sites[0].server, &format!("/upload/{attempt}.bin"));
        let print = "%header{x-server}";
        curl(
            client,
            &["-T", file, "-o", "/dev/null", "-w", print, &target],
        )
    };
    let (site, attempt) = migrated(sites, put);
    let taken = site.directory.join(format!("www/upload/{attempt}.bin"));
    assert!(
        fs::read(taken).unwrap() == bytes,
        "{} got something else",
        site.server.name()
    );
}

/// Where `path` is, to clients that connect to `server`.
pub fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address(Lan::A))
}

/// Bytes that do not repeat.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        // Knuth's MMIX generator.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    });
    words.take(len / 4).flat_map(u32::to_le_bytes).collect()
}

/// A directory that other users may look into.
pub fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// The configuration file of a device with an HTTP server as application.
pub fn configuration(server: &Server) -> String {
    let listen = format!(
        r#"
[[listen]]
address = "{}:80"
app = "127.0.0.1:8080"
"#,
        server.address(Lan::A)
    );
    ports(server) + &listen
}

/// The part of it that says nothing of applications.
pub fn ports(server: &Server) -> String {
    let [a, b, c] = Lan::ALL.map(|lan| (lan.interface(), server.address(lan)));
    format!(
        r#"
name = "{name}"

[port_a]
interface = "{a0}"
addresses = ["{a1}"]
prefix = {prefix}

[port_b]
interface = "{b0}"
address = "{b1}"

[synch]
interface = "{c0}"
address = "{c1}"

[balance]
policy = "round-robin"
# A server that has come back gets its turn as before.
slow_start_s = 0
"#,
        name = server.name(),
        prefix = ipos_lab::PREFIX,
        a0 = a.0,
        a1 = a.1,
        b0 = b.0,
        b1 = b.1,
        c0 = c.0,
        c1 = c.1,
    )
}

/// Starts nginx. `/` says the server's name, `/page` says it many times, `big` is served as `/big.bin`, and as `/slow.bin` with
/// [`SLOW`] bytes a second; uploads go to `/upload/`. On port 8081 it expects the PROXY protocol, and says what that has told, behind the name.
pub fn nginx(server: &Server, directory: &Path, big: &Path) -> Running {
    let www = directory.join("www");
    fs::create_dir_all(www.join("upload")).unwrap();
    fs::write(www.join("index.html"), server.name()).unwrap();
    fs::write(www.join("page"), page(server.name())).unwrap();
    for name in ["big.bin", "slow.bin"] {
        std::os::unix::fs::symlink(big, www.join(name)).unwrap();
    }
    let file = directory.join("nginx.conf");
    fs::write(&file, nginx_configuration(server.name(), directory)).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file);
    command.arg("-e").arg(directory.join("error.log"));
    start_nginx(server, command, directory)
}

/// Starts nginx with this command, and waits until it listens.
pub fn start_nginx(server: &Server, command: Command, directory: &Path) -> Running {
    let pid = directory.join("nginx.pid");
    // Of a life that was ended by SIGKILL.
    let _none = fs::remove_file(&pid);
    let log = directory.join("application.err");
    let running = Running::start(server.namespace(), command, &log);
    wait_until("nginx listens", || pid.exists());
    running
}

/// What `/page` says: several segments.
pub fn page(name: &str) -> String {
    name.repeat(10_000)
}

/// nginx as it is packaged, with every file of its own in `directory`.
fn nginx_configuration(name: &str, directory: &Path) -> String {
    let directory = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {directory}/{kind};\n"))
        .concat();
    format!(
        r#"
daemon off;
user root root;
worker_processes 1;
pid {directory}/nginx.pid;
events {{}}
http {{
    access_log off;
    keepalive_timeout 600s;
{temporary}    client_max_body_size 1g;
    server {{
        listen 127.0.0.1:8080;
        root {directory}/www;
        add_header X-Server {name} always;
        location = /slow.bin {{
            limit_rate {SLOW};
        }}
        location /upload/ {{
            dav_methods PUT;
        }}
    }}
    server {{
        listen 127.0.0.1:8081 proxy_protocol;
        location = / {{
            return 200 "{name} $proxy_protocol_addr $proxy_protocol_server_addr:$proxy_protocol_server_port";
        }}
    }}
}}
"#
    )
}

/// Runs curl inside `namespace`; it must succeed. What it wrote.
pub fn curl(namespace: &Namespace, arguments: &[&str]) -> String {
    let output = output(
        namespace,
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "50"])
            .args(arguments),
    );
    assert!(
        output.status.success(),
        "curl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command inside `namespace`.
pub fn output(namespace: &Namespace, command: &mut Command) -> Output {
    namespace
        .run(|| command.stdin(Stdio::null()).output())
        .unwrap()
        .unwrap()
}
