//! A client with one connection: the kernel's TCP, inside the client's namespace.

#![allow(dead_code, reason = "no test needs all of it")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use ipos_lab::{Farm, Lan, Server};

use crate::site::PATIENCE;

/// A connection.
pub struct Client {
    stream: TcpStream,
    /// What has come and was not asked for yet.
    rest: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Who answers.
    pub server: String,
    /// Bytes of the body.
    pub length: usize,
}

impl Client {
    /// Connects to `server`.
    pub fn connect(farm: &Farm, server: &Server) -> Client {
        let to = SocketAddr::from((server.address(Lan::A), 80));
        let connect = || TcpStream::connect_timeout(&to, PATIENCE);
        let stream = farm.client().run(connect).unwrap().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            rest: Vec::new(),
        }
    }

    /// Connects to the first of `servers` and asks for `path`, until another one answers than that.
    pub fn migrated(farm: &Farm, path: &str, wanted: &str) -> (Client, Head) {
        for _ in 0..20 {
            let mut client = Client::connect(farm, &farm.servers()[0]);
            let head = client.get(path).unwrap();
            if head.server == wanted {
                return (client, head);
            }
        }
        panic!("none of 20 connections came to {wanted}");
    }

    /// The client's address and port.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Asks for `path`, and reads the head of the answer.
    pub fn get(&mut self, path: &str) -> io::Result<Head> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: farm.test\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        let end = loop {
            let end = self.rest.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => self.more()?,
            }
        };
        let head: Vec<_> = self.rest.drain(..end).collect();
        let head = String::from_utf8(head).map_err(io::Error::other)?;
        let bad = || io::Error::other(format!("not the expected head: {head:?}"));
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(bad());
        }
        let field = |name: &str| {
            let mut lines = head.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .ok_or_else(bad)
        };
        Ok(Head {
            server: field("X-Server: ")?.to_owned(),
            length: field("Content-Length: ")?
                .parse()
                .map_err(io::Error::other)?,
        })
    }

    /// The body after that head.
    pub fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        while self.rest.len() < head.length {
            self.more()?;
        }
        Ok(self.rest.drain(..head.length).collect())
    }

    /// Reads until the connection ends: how.
    pub fn until_end(mut self) -> io::Error {
        loop {
            self.rest.clear();
            if let Err(error) = self.more() {
                return error;
            }
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 65_536];
        match self.stream.read(&mut bytes)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => {
                self.rest.extend_from_slice(&bytes[..read]);
                Ok(())
            }
        }
    }
}
