//! Records to bytes and back.

use core::net::Ipv4Addr;

use super::record::{
    AddressList, CPU_FULL, Cookie, Identity, Listen, NAME_MAX, Object, PACKAGE_MAX, PORT_A_MAX,
    Performance, Process, Record, SESSION_MAX, Shadow, State, Subject,
};
use crate::bytes::{Reader, Writer};
use crate::{Layer, MacAddr, Protocol, WireError};

const HEADER_LEN: usize = 4;
const LENGTH_AT: usize = 2;
/// Longest record of a known type: STORED.
pub(super) const RECORD_MAX: usize = HEADER_LEN + PACKAGE_MAX;

const STATE: u8 = 1;
const IDENTITY: u8 = 2;
const LISTEN: u8 = 3;
const PROCESS: u8 = 4;
const OBJECT: u8 = 5;
const COOKIE: u8 = 6;
const PERFORMANCE: u8 = 7;
const STORED: u8 = 8;

const COOKIE_SET: u8 = 1;
const COOKIE_REMOVED: u8 = 2;
const SUBJECT_PROCESS: u8 = 1;
const SUBJECT_OBJECT: u8 = 2;

impl<'a> Record<'a> {
    /// Reads the record at the start of `bytes`, `None` if its type is unknown; also gives what
    /// follows it.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<(Option<Self>, &'a [u8]), WireError> {
        let mut reader = Reader::new(bytes, Layer::SynchRecord, HEADER_LEN)?;
        let [kind, _zero] = reader.array()?;
        let length = reader.u16()?;
        let value = reader.take(usize::from(length))?;
        let mut fields = Reader::new(value, Layer::SynchRecord, 0)?;
        let record = Self::parse_fields(kind, &mut fields, value.len())
            .map_err(|error| error.offset_by(HEADER_LEN))?;
        if record.is_some() && fields.at() != value.len() {
            let required = "what the fields of its type add up to";
            return Err(invalid(LENGTH_AT, "record length", required, length));
        }
        Ok((record, reader.rest()))
    }

    fn parse_fields(kind: u8, r: &mut Reader<'a>, len: usize) -> Result<Option<Self>, WireError> {
        let record = match kind {
            STATE => Self::State(State {
                connections: r.u32()?,
                cpu: {
                    let cpu = r.u16()?;
                    let _zero = r.u16()?;
                    cpu
                },
                free_memory: r.u64()?,
                free_bandwidth: r.u64()?,
            }),
            IDENTITY => Self::Identity(parse_identity(r)?),
            LISTEN => Self::Listen(parse_listen(r)?),
            PROCESS => Self::Process(parse_process(r)?),
            OBJECT => Self::Object(parse_object(r)?),
            COOKIE => parse_cookie(r)?,
            PERFORMANCE => Self::Performance(parse_performance(r)?),
            STORED => Self::Stored(text(r, "package name", len)?),
            _ => return Ok(None),
        };
        record.validate()?;
        Ok(Some(record))
    }

    /// Whether lengths and figures are within their bounds. Offsets count from the value.
    fn validate(&self) -> Result<(), WireError> {
        let cpu = |offset, actual: u16| match actual {
            0..=CPU_FULL => Ok(()),
            _ => Err(invalid(offset, "CPU", "at most 10000", actual)),
        };
        match self {
            Self::State(State { cpu: actual, .. }) => cpu(4, *actual),
            Self::Identity(Identity { name, .. }) => server_name(11, name),
            Self::Listen(Listen { service, .. }) => optional_name(7, "service length", service),
            Self::Process(Process { name, .. }) => optional_name(11, "name length", name),
            Self::Object(_) => Ok(()),
            Self::Cookie(Cookie {
                session, server, ..
            }) => {
                session_id(1, session)?;
                server_name(2, server)
            }
            Self::CookieRemoved(session) => session_id(1, session),
            Self::Performance(Performance { cpu: actual, .. }) => cpu(2, *actual),
            Self::Stored(name) => match name.len() {
                1..=PACKAGE_MAX => Ok(()),
                len => Err(invalid(0, "package name length", "1 to 255", len as u64)),
            },
        }
    }

    /// Writes the record to the start of `out`; gives its length.
    pub(super) fn emit(&self, out: &mut [u8; RECORD_MAX]) -> Result<usize, WireError> {
        self.validate()
            .map_err(|error| error.offset_by(HEADER_LEN))?;
        let mut w = Writer::new(out);
        // Lengths that are cast were found to fit in their field by `validate`.
        w.u8(self.kind()).u8(0).u16(0);
        match *self {
            Self::State(State {
                connections,
                cpu,
                free_memory,
                free_bandwidth,
            }) => {
                w.u32(connections)
                    .u16(cpu)
                    .u16(0)
                    .u64(free_memory)
                    .u64(free_bandwidth);
            }
            Self::Identity(Identity {
                name,
                port_b,
                hardware,
                port_a,
            }) => {
                let addresses = port_a.as_slice();
                w.ipv4(port_b)
                    .put(&hardware.0)
                    .u8(addresses.len() as u8)
                    .u8(name.len() as u8);
                for address in addresses {
                    w.ipv4(*address);
                }
                w.put(name.as_bytes());
            }
            Self::Listen(Listen {
                address,
                protocol,
                service,
            }) => {
                w.socket(address).u8(protocol as u8).u8(service.len() as u8);
                w.put(service.as_bytes());
            }
            Self::Process(Process { pid, address, name }) => {
                w.u32(pid)
                    .socket(address)
                    .u8(0)
                    .u8(name.len() as u8)
                    .put(name.as_bytes());
            }
            Self::Object(Object {
                id,
                address,
                shadow,
            }) => {
                let none = Shadow {
                    id: 0,
                    address: Ipv4Addr::UNSPECIFIED,
                };
                let shadow = shadow.unwrap_or(none);
                w.u64(id).ipv4(address).u64(shadow.id).ipv4(shadow.address);
            }
            Self::Cookie(Cookie {
                session,
                server,
                lifetime_ms,
            }) => {
                w.u8(COOKIE_SET)
                    .u8(session.len() as u8)
                    .u8(server.len() as u8)
                    .u8(0);
                w.u32(lifetime_ms).put(session).put(server.as_bytes());
            }
            Self::CookieRemoved(session) => {
                w.u8(COOKIE_REMOVED)
                    .u8(session.len() as u8)
                    .u8(0)
                    .u8(0)
                    .u32(0)
                    .put(session);
            }
            Self::Performance(Performance {
                subject,
                cpu,
                memory,
            }) => {
                let (kind, id) = match subject {
                    Subject::Process(pid) => (SUBJECT_PROCESS, u64::from(pid)),
                    Subject::Object(id) => (SUBJECT_OBJECT, id),
                };
                w.u8(kind).u8(0).u16(cpu).u64(id).u64(memory);
            }
            Self::Stored(name) => {
                w.put(name.as_bytes());
            }
        }
        let len = w.at();
        Writer::new(&mut out[LENGTH_AT..]).u16((len - HEADER_LEN) as u16);
        Ok(len)
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::State(_) => STATE,
            Self::Identity(_) => IDENTITY,
            Self::Listen(_) => LISTEN,
            Self::Process(_) => PROCESS,
            Self::Object(_) => OBJECT,
            Self::Cookie(_) | Self::CookieRemoved(_) => COOKIE,
            Self::Performance(_) => PERFORMANCE,
            Self::Stored(_) => STORED,
        }
    }
}

fn parse_identity<'a>(r: &mut Reader<'a>) -> Result<Identity<'a>, WireError> {
    let port_b = r.ipv4()?;
    let hardware = MacAddr(r.array()?);
    let [count, name_len] = r.array()?;
    let mut addresses = [Ipv4Addr::UNSPECIFIED; PORT_A_MAX];
    let Some(used) = addresses.get_mut(..usize::from(count)) else {
        return Err(invalid(
            10,
            "number of Port A addresses",
            "at most 16",
            count,
        ));
    };
    for address in used.iter_mut() {
        *address = r.ipv4()?;
    }
    let port_a = AddressList::new(used).unwrap_or_default();
    Ok(Identity {
        name: text(r, "name", name_len.into())?,
        port_b,
        hardware,
        port_a,
    })
}

fn parse_listen<'a>(r: &mut Reader<'a>) -> Result<Listen<'a>, WireError> {
    let address = r.socket()?;
    let [protocol, service_len] = r.array()?;
    let protocol = Protocol::from_u8(protocol)
        .ok_or_else(|| invalid(6, "protocol", "1 (TCP) or 2 (UDP)", protocol))?;
    Ok(Listen {
        address,
        protocol,
        service: text(r, "service name", service_len.into())?,
    })
}

fn parse_process<'a>(r: &mut Reader<'a>) -> Result<Process<'a>, WireError> {
    let (pid, address) = (r.u32()?, r.socket()?);
    let [_zero, name_len] = r.array()?;
    Ok(Process {
        pid,
        address,
        name: text(r, "name", name_len.into())?,
    })
}

fn parse_object(r: &mut Reader<'_>) -> Result<Object, WireError> {
    let (id, address) = (r.u64()?, r.ipv4()?);
    let shadow = Shadow {
        id: r.u64()?,
        address: r.ipv4()?,
    };
    let none = shadow.id == 0 && shadow.address.is_unspecified();
    Ok(Object {
        id,
        address,
        shadow: (!none).then_some(shadow),
    })
}

fn parse_cookie<'a>(r: &mut Reader<'a>) -> Result<Record<'a>, WireError> {
    let [action, session_len, server_len, _zero] = r.array()?;
    let lifetime_ms = r.u32()?;
    let session = r.take(session_len.into())?;
    match action {
        COOKIE_SET => {
            let server = text(r, "server name", server_len.into())?;
            Ok(Record::Cookie(Cookie {
                session,
                server,
                lifetime_ms,
            }))
        }
        COOKIE_REMOVED if server_len != 0 => Err(invalid(
            2,
            "server name length",
            "0 when removed",
            server_len,
        )),
        COOKIE_REMOVED if lifetime_ms != 0 => {
            Err(invalid(4, "lifetime", "0 when removed", lifetime_ms))
        }
        COOKIE_REMOVED => Ok(Record::CookieRemoved(session)),
        _ => Err(invalid(0, "action", "1 (set) or 2 (removed)", action)),
    }
}

fn parse_performance(r: &mut Reader<'_>) -> Result<Performance, WireError> {
    let [kind, _zero] = r.array()?;
    let (cpu, id, memory) = (r.u16()?, r.u64()?, r.u64()?);
    let subject = match kind {
        SUBJECT_PROCESS => {
            let pid = u32::try_from(id)
                .map_err(|_| invalid(4, "process id", "at most 4294967295", id))?;
            Subject::Process(pid)
        }
        SUBJECT_OBJECT => Subject::Object(id),
        _ => return Err(invalid(0, "subject", "1 (process) or 2 (object)", kind)),
    };
    Ok(Performance {
        subject,
        cpu,
        memory,
    })
}

fn text<'a>(r: &mut Reader<'a>, field: &'static str, len: usize) -> Result<&'a str, WireError> {
    let at = r.at();
    let bytes = r.take(len)?;
    core::str::from_utf8(bytes).map_err(|error| {
        let bad = error.valid_up_to();
        let actual = bytes.get(bad).copied().unwrap_or_default();
        invalid(at.saturating_add(bad), field, "UTF-8", actual)
    })
}

fn server_name(offset: usize, name: &str) -> Result<(), WireError> {
    match name.len() {
        1..=NAME_MAX => Ok(()),
        len => Err(invalid(offset, "name length", "1 to 63", len as u64)),
    }
}

fn optional_name(offset: usize, field: &'static str, name: &str) -> Result<(), WireError> {
    match name.len() {
        0..=NAME_MAX => Ok(()),
        len => Err(invalid(offset, field, "at most 63", len as u64)),
    }
}

fn session_id(offset: usize, session: &[u8]) -> Result<(), WireError> {
    match session.len() {
        1..=SESSION_MAX => Ok(()),
        len => Err(invalid(offset, "session id length", "1 to 64", len as u64)),
    }
}

fn invalid(
    offset: usize,
    field: &'static str,
    required: &'static str,
    actual: impl Into<u64>,
) -> WireError {
    WireError::value(Layer::SynchRecord, offset, field, required, actual)
}
