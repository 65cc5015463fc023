//! Clients that do not stop.

use std::process::{Child, Command, Stdio};
use std::thread;

use ipos_lab::Server;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Bed;
use crate::site::{curl, url};

/// wrk with connections that stay, to one server, until it is ended.
pub struct Load {
    wrk: Child,
}

impl Load {
    /// Starts to ask for `path`.
    pub fn start(bed: &Bed, server: &Server, path: &str) -> Load {
        let mut command = Command::new("wrk");
        command
            .args(["-t1", "-c8", "--timeout", "20s", "-d1h", &url(server, path)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let spawned = bed.farm.client().run(|| command.spawn());
        Load {
            wrk: spawned.unwrap().unwrap(),
        }
    }

    /// Ends it: every request must have been answered. How many.
    pub fn end(self) -> u64 {
        kill(Pid::from_raw(self.wrk.id() as i32), Signal::SIGINT).unwrap();
        let output = self.wrk.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        println!("{told}");
        assert!(output.status.success(), "{told}");
        for bad in ["Socket errors", "Non-2xx"] {
            assert!(!told.contains(bad), "{told}");
        }
        let mut words = told
            .lines()
            .filter_map(|line| line.split_once(" requests in "));
        let requests = words.next().map(|(number, _)| number.trim().parse());
        requests.unwrap().unwrap()
    }
}

/// Runs `work` while a client downloads slowly from `server`; what it has got must be whole.
pub fn while_downloading(bed: &Bed, server: &Server, work: impl FnOnce()) {
    let to = bed.directory.join("slow.bin");
    let (file, from) = (to.to_str().unwrap(), url(server, "/slow.bin"));
    thread::scope(|scope| {
        let download = scope.spawn(|| curl(bed.farm.client(), &["-o", file, &from]));
        work();
        download.join().unwrap();
    });
    assert!(std::fs::read(to).unwrap() == bed.big);
}
