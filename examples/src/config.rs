//! The configuration file of `inic`: TOML, unknown keys are errors, and every error is one line that names
//! the file and the key.

mod check;
mod content;
mod position;
mod sections;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipos_backend::Capabilities;
use ipos_core::config::{PortB, PortC};
use ipos_core::{Config, FarmKey};
use ipos_engine::Application;
use ipos_proto::MacAddr;

use crate::backend::{Carrier, Sizes};
use crate::{key_file, wording};
use position::Positions;
use sections::{AdminSection, ListenSection, PortCSection, Sections, synch_port};

/// What is wrong with a configuration file: one line.
#[derive(Debug)]
pub struct FileError {
    file: PathBuf,
    /// As in `listen[1].address`; empty where it is the file as a whole.
    key: String,
    what: String,
    line: Option<usize>,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        match self.line {
            Some(line) => write!(f, " (line {line})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FileError {}

/// A value that does not do, before its place in the file is known.
#[derive(Debug, PartialEq)]
struct Fault {
    key: String,
    what: String,
}

impl Fault {
    fn new(key: impl Into<String>, what: impl fmt::Display) -> Fault {
        Fault {
            key: key.into(),
            what: what.to_string(),
        }
    }
}

/// Where the applications are.
#[derive(Clone, Copy, Debug)]
enum Applications {
    /// Behind the addresses that the file names.
    Behind,
    /// In this process.
    InProcess,
}

/// A valid configuration file.
#[derive(Debug)]
pub struct FileConfig {
    path: PathBuf,
    positions: Positions,
    sections: Sections,
    applications: Applications,
    farm_key: Option<FarmKey>,
}

/// What a configuration file does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    /// Seed of the generator, unless the file has one.
    pub seed: u64,
    /// Key of the initial sequence numbers (RFC 6528).
    pub isn_key: [u8; 16],
    /// Where the ids of sessions come from: secret, and another one at each start.
    pub session_key: [u8; 32],
    /// Grows with every start of the server.
    pub incarnation: u32,
}

/// What is known of the interfaces once they are open.
#[derive(Clone, Copy, Debug)]
pub struct Interfaces {
    /// Port A.
    pub a: Capabilities,
    /// Port B.
    pub b: Capabilities,
    /// The Synch Port.
    pub synch: Capabilities,
    /// Port C, where there is one.
    pub c: Option<Capabilities>,
}

impl Interfaces {
    /// Such that carry what Ethernet always carries.
    pub const ETHERNET: Interfaces = {
        let port = Capabilities {
            hardware_address: [2, 0, 0, 0, 0, 0],
            mtu: 1500,
            burst: 1,
        };
        Interfaces {
            a: port,
            b: port,
            synch: port,
            c: Some(port),
        }
    };
}

impl FileConfig {
    /// Reads and validates the file at `path`; each listening socket has its application's address.
    ///
    /// # Errors
    /// The file or its farm key cannot be read, it is not TOML, has an unknown key, lacks one, or a value does not do.
    pub fn read(path: &Path) -> Result<FileConfig, FileError> {
        FileConfig::read_for(path, Applications::Behind)
    }

    /// The same, where the applications are in this process: none has an address.
    ///
    /// # Errors
    /// As [`FileConfig::read`].
    pub fn read_in_process(path: &Path) -> Result<FileConfig, FileError> {
        FileConfig::read_for(path, Applications::InProcess)
    }

    /// Reads what the file says by now.
    ///
    /// # Errors
    /// As [`FileConfig::read`].
    pub fn read_again(&self) -> Result<FileConfig, FileError> {
        FileConfig::read_for(&self.path, self.applications)
    }

    fn read_for(path: &Path, applications: Applications) -> Result<FileConfig, FileError> {
        let text = std::fs::read_to_string(path).map_err(|error| FileError {
            file: path.to_owned(),
            key: String::new(),
            what: format!("cannot be read: {error}"),
            line: None,
        })?;
        FileConfig::parse_for(path, &text, applications)
    }

    /// Validates the text of a file; `path` is for errors.
    ///
    /// # Errors
    /// As [`FileConfig::read`], but for reading it: only the farm key is read.
    pub fn parse(path: &Path, text: &str) -> Result<FileConfig, FileError> {
        FileConfig::parse_for(path, text, Applications::Behind)
    }

    fn parse_for(
        path: &Path,
        text: &str,
        applications: Applications,
    ) -> Result<FileConfig, FileError> {
        let positions = Positions::new(text);
        let parsed: Result<Sections, _> = toml::from_str(text);
        let sections = parsed.map_err(|error| {
            let span = error.span();
            let mut key = span
                .as_ref()
                .map(|span| positions.key_at(span))
                .unwrap_or_default();
            let mut what = wording::of(&error);
            let mut line = span.map(|span| positions.line_at(span.start));
            if let Some(name) = missing(error.message()) {
                // The file as a whole has no line.
                line = line.filter(|_| !key.is_empty());
                key = position::join(&key, name);
                what = "is missing".into();
            }
            FileError {
                file: path.to_owned(),
                key,
                what,
                line,
            }
        })?;
        let mut config = FileConfig {
            path: path.to_owned(),
            positions,
            sections,
            applications,
            farm_key: None,
        };
        check::check(&config.sections, applications).map_err(|fault| config.place(fault))?;
        if let Some(security) = &config.sections.security {
            let key = key_file::read(path, &security.farm_key_file);
            let key = key.map_err(|error| config.error("security.farm_key_file", error))?;
            config.farm_key = Some(key);
        }
        // What only the device knows of; the interfaces are looked at when they are opened.
        config.device(Interfaces::ETHERNET, Start::default())?;
        Ok(config)
    }

    /// An error of this file at `key`.
    pub fn error(&self, key: &str, what: impl fmt::Display) -> FileError {
        self.place(Fault::new(key, what))
    }

    fn place(&self, fault: Fault) -> FileError {
        let line = self.positions.line_of(&fault.key);
        FileError {
            file: self.path.clone(),
            key: fault.key,
            what: fault.what,
            line,
        }
    }

    /// The interfaces' names: Port A, Port B, Synch Port.
    pub fn interfaces(&self) -> [&str; 3] {
        let Sections {
            port_a,
            port_b,
            synch,
            ..
        } = &self.sections;
        [&port_a.interface, &port_b.interface, &synch.interface]
    }

    /// The name of Port C's interface.
    pub fn interface_c(&self) -> Option<&str> {
        self.port_c().map(|section| &*section.port.interface)
    }

    /// What carries the device's frames.
    pub fn carrier(&self) -> Carrier {
        self.sections.backend
    }

    /// Sizes of the ports of [`Carrier::Xdp`].
    pub fn xdp(&self) -> Sizes {
        self.sections.xdp
    }

    fn port_c(&self) -> Option<&PortCSection> {
        self.sections.port_c.as_ref()
    }

    /// The interface that most responses leave by.
    pub fn way_out(&self) -> &str {
        let port_c = self.port_c().filter(|section| section.responses);
        let port = port_c.map_or(&self.sections.port_a, |section| &section.port);
        &port.interface
    }

    /// The device's addresses on Port A and Port C.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        let port_c = self.port_c().map(|section| &section.port);
        let ports = [Some(&self.sections.port_a), port_c];
        let ports = ports.into_iter().flatten();
        ports.flat_map(|port| port.addresses.clone()).collect()
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.sections.name
    }

    /// How many listening sockets there are.
    pub fn listening(&self) -> usize {
        self.sections.listen.len()
    }

    /// The applications, in the order of the listening sockets; none where they are in this process.
    pub fn applications(&self) -> Vec<Application> {
        let application = |listen: &ListenSection| {
            let proxied = listen.proxy_protocol;
            listen.app.map(|address| match proxied {
                true => Application::Proxied(address),
                false => Application::Address(address),
            })
        };
        self.sections
            .listen
            .iter()
            .filter_map(application)
            .collect()
    }

    /// How often the applications are asked whether they answer; `None`: never.
    pub fn health(&self) -> Option<Duration> {
        self.sections.health.interval()
    }

    /// How long the engine looks for work before it sleeps.
    pub fn linger(&self) -> Duration {
        self.sections.engine.linger()
    }

    /// The processor that the engine runs on; `None`: any.
    pub fn cpu(&self) -> Option<usize> {
        self.sections.engine.cpu
    }

    /// Whether other servers must show that they have the farm's key.
    pub fn has_farm_key(&self) -> bool {
        self.farm_key.is_some()
    }

    /// The admin address, if there shall be one.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.sections.admin.as_ref().map(AdminSection::listen)
    }

    /// What `new` may not change while the program runs: what the device does not see. The device and the engine refuse the
    /// rest ([`ipos_core::Device::reconfigure`]).
    ///
    /// # Errors
    /// The first key that differs, at its place in `new`.
    pub fn check_reload(&self, new: &FileConfig) -> Result<(), FileError> {
        let (of_old, of_new) = (&self.sections, &new.sections);
        let interfaces = ["port_a.interface", "port_b.interface", "synch.interface"];
        let interfaces = interfaces
            .into_iter()
            .zip(self.interfaces().into_iter().zip(new.interfaces()))
            .map(|(key, (old, new))| (key, old == new));
        let others = [
            ("backend", of_old.backend == of_new.backend),
            ("xdp", of_old.xdp == of_new.xdp),
            ("engine", of_old.engine == of_new.engine),
            ("stack", of_old.stack() == of_new.stack()),
            ("admin.listen", self.admin() == new.admin()),
            ("port_c.interface", self.interface_c() == new.interface_c()),
        ];
        match others.into_iter().chain(interfaces).find(|(_, same)| !same) {
            Some((key, _)) => Err(new.error(key, "needs a restart")),
            None => Ok(()),
        }
    }

    /// The servers that maps and weights name, each with its place in the file.
    pub fn servers(&self) -> Vec<(String, String)> {
        let mapped = self.sections.content().servers();
        let mapped = mapped.map(|(key, name)| (key, name.to_owned()));
        let weights = self.sections.balance.weights.keys();
        let weighted = weights.map(|name| (format!("balance.weights.{name}"), name.clone()));
        mapped.chain(weighted).collect()
    }

    /// The device's configuration.
    ///
    /// # Errors
    /// A value that the device refuses: the interfaces' MTU may be too small.
    pub fn device(&self, interfaces: Interfaces, start: Start) -> Result<Config, FileError> {
        let Sections {
            name,
            port_a,
            port_b,
            synch,
            balance,
            listen,
            limits,
            ..
        } = &self.sections;
        let policy = check::policy(balance.policy.as_deref()).map_err(|fault| self.place(fault))?;
        let mut config = Config::new(
            name.clone(),
            port_a.port(interfaces.a),
            PortB {
                ethertype: port_b.ethertype.unwrap_or(ipos_proto::ETHERTYPE),
                mtu: interfaces.b.mtu,
                ..PortB::new(MacAddr(interfaces.b.hardware_address), port_b.address)
            },
            synch_port(synch, interfaces.synch),
        );
        let port_c = self.port_c().zip(interfaces.c);
        config.port_c = port_c.map(|(section, interface)| PortC {
            port: section.port.port(interface),
            responses: section.responses,
        });
        config.listen = listen.iter().map(ListenSection::listen).collect();
        config.balance = balance.balance(policy);
        config.content = self.sections.content().content(start.session_key);
        config.limits = limits.limits();
        config.seed = balance.seed.unwrap_or(start.seed);
        config.isn_key = start.isn_key;
        config.incarnation = start.incarnation;
        config.farm_key = self.farm_key.clone();
        config.validate().map_err(|error| match error.field {
            "mtu" => self.too_small(interfaces, &error.problem),
            "port_c.mtu" => self.error(
                "port_c.interface",
                format_args!("its MTU {}", error.problem),
            ),
            field => self.error(field, error.problem),
        })?;
        Ok(config)
    }

    /// What the MTU leaves no room for, at the interface that leaves less.
    fn too_small(&self, interfaces: Interfaces, problem: &str) -> FileError {
        let [a, b, _] = self.interfaces();
        let Interfaces {
            a: on_a, b: on_b, ..
        } = interfaces;
        let room = usize::from(on_b.mtu).saturating_sub(ipos_proto::HEADER_LEN);
        let (key, name, mtu) = if usize::from(on_a.mtu) < room {
            ("port_a.interface", a, on_a.mtu)
        } else {
            ("port_b.interface", b, on_b.mtu)
        };
        let what = format_args!("`{name}` has an MTU of {mtu} bytes: that {problem}");
        self.error(key, what)
    }
}

/// The key that a message of serde says is not there.
fn missing(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
