//! The programs of the test: nginx, `inic` and curl, each in its namespace.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ipos_lab::{Lan, Namespace, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Nothing of this test takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// A server of the farm: its files, its nginx, its device.
pub struct Site<'a> {
    pub server: &'a Server,
    directory: PathBuf,
    _nginx: Running,
    inic: Option<Running>,
}

impl<'a> Site<'a> {
    /// Starts both programs. `big` is served as `/big.bin`; `/` says the server's name; uploads go to `/upload/`.
    pub fn start(server: &'a Server, root: &Path, big: &Path) -> Site<'a> {
        let directory = root.join(server.name());
        fs::create_dir_all(directory.join("www/upload")).unwrap();
        fs::write(directory.join("www/index.html"), server.name()).unwrap();
        std::os::unix::fs::symlink(big, directory.join("www/big.bin")).unwrap();
        let nginx = directory.join("nginx.conf");
        fs::write(&nginx, nginx_configuration(server.name(), &directory)).unwrap();
        let mut command = Command::new("nginx");
        command
            .arg("-c")
            .arg(&nginx)
            .arg("-e")
            .arg(directory.join("error.log"));
        let nginx = Running::start(server.namespace(), command, &directory.join("nginx.err"));
        fs::write(directory.join("inic.toml"), configuration(server)).unwrap();
        let mut site = Site {
            server,
            directory,
            _nginx: nginx,
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

    pub fn end_inic(&mut self, signal: Signal) -> ExitStatus {
        self.inic.take().expect("it runs").end(signal)
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

    /// A file that a client has uploaded.
    pub fn uploaded(&self, name: &str) -> Vec<u8> {
        fs::read(self.directory.join("www/upload").join(name)).unwrap()
    }
}

/// A directory that other users may look into.
pub fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// The device's configuration file.
pub fn configuration(server: &Server) -> String {
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

[[listen]]
address = "{a1}:80"
app = "127.0.0.1:8080"
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
{temporary}    client_max_body_size 1g;
    server {{
        listen 127.0.0.1:8080;
        root {directory}/www;
        add_header X-Server {name} always;
        location /upload/ {{
            dav_methods PUT;
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
