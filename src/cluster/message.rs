//! The messages of the cluster bus, byte for byte as Redis 7.0 speaks them (redis.io, "Redis cluster specification").
//!
//! ```text
//!   0    RCmb │ total length u32 │ version u16 = 1 │ port u16 │ type u16 │ count u16
//!   16   current epoch u64 │ config epoch u64 │ replication offset u64
//!   40   sender [40] │ slots of the sender, or of its primary: bitmap [2048] │ primary [40] │ announced ip [46]
//!   2214 extensions u16 │ … │ 2246 plain port u16 │ bus port u16 │ flags u16 │ state u8 │ message flags [3]
//!   2256 by type:  PING PONG MEET  count × gossip [104], extensions (8-byte aligned)
//!                  FAIL  name [40]      UPDATE  config epoch u64, name [40], slots [2048]
//!                  PUBLISH PUBLISHSHARD  channel length u32, message length u32, channel, message
//! ```
//! All numbers are big-endian. A message whose length is not exactly what its content needs is refused.

use super::machine::node::{Name, SlotSet};

pub const HEADER: usize = 2256;
const IP: usize = 46;
const BITMAP: usize = 2048;
const VERSION: u16 = 1;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ping = 0,
    Pong = 1,
    Meet = 2,
    Fail = 3,
    Publish = 4,
    AuthRequest = 5,
    AuthAck = 6,
    Update = 7,
    ManualFailoverStart = 8,
    Module = 9,
    PublishShard = 10,
}

/// Names as CLUSTER INFO counts them, by number.
pub const KIND_NAMES: [&str; 11] =
    ["ping", "pong", "meet", "fail", "publish", "auth-req", "auth-ack", "update", "mfstart", "module", "publishshard"];

impl Kind {
    fn of(number: u16) -> Option<Self> {
        const ALL: [Kind; 11] = [
            Kind::Ping,
            Kind::Pong,
            Kind::Meet,
            Kind::Fail,
            Kind::Publish,
            Kind::AuthRequest,
            Kind::AuthAck,
            Kind::Update,
            Kind::ManualFailoverStart,
            Kind::Module,
            Kind::PublishShard,
        ];
        ALL.get(usize::from(number)).copied()
    }
}

/// Bits of the first message flag.
pub mod mflag {
    /// The sender, a primary, has paused its clients for a manual failover.
    pub const PAUSED: u8 = 1;
    /// A vote is wanted though the primary is well.
    pub const FORCE_ACK: u8 = 1 << 1;
    pub const EXTENSIONS: u8 = 1 << 2;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    pub port: u16,
    pub plain_port: u16,
    pub bus_port: u16,
    pub current_epoch: u64,
    pub config_epoch: u64,
    pub offset: u64,
    pub sender: Name,
    pub slots: Box<SlotSet>,
    pub primary: Option<Name>,
    /// Empty: the receiver takes the address that it sees.
    pub ip: String,
    pub flags: u16,
    /// 0 if all is well.
    pub state: u8,
    pub message_flags: u8,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// AUTH_REQUEST, AUTH_ACK, MFSTART; a module's message, which nobody here hears.
    Empty,
    Gossip {
        nodes: Vec<Gossip>,
        hostname: Option<String>,
    },
    Fail(Name),
    Publish {
        channel: Vec<u8>,
        message: Vec<u8>,
    },
    Update {
        config_epoch: u64,
        name: Name,
        slots: Box<SlotSet>,
    },
}

/// What a node says of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gossip {
    pub name: Name,
    pub ping_sent_s: u32,
    pub pong_received_s: u32,
    pub ip: String,
    pub port: u16,
    pub bus_port: u16,
    pub flags: u16,
    pub plain_port: u16,
}

/// The length that a message announces, from its first eight bytes; nothing if this is not the bus.
pub fn announced_len(start: [u8; 8]) -> Option<usize> {
    let len = u32::from_be_bytes([start[4], start[5], start[6], start[7]]) as usize;
    (start.starts_with(b"RCmb") && len >= HEADER).then_some(len)
}

/// Reads numbers and texts one after another.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn name(&mut self) -> Option<Name> {
        self.array().map(Name)
    }

    fn slots(&mut self) -> Option<Box<SlotSet>> {
        self.take(BITMAP).map(SlotSet::from_bytes)
    }

    /// Text that ends at the first zero.
    fn text(&mut self, len: usize) -> Option<String> {
        self.take(len).map(|bytes| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(len);
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        })
    }
}

/// Why a message counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another version of the protocol.
    Version,
    /// A type that we do not know.
    Unknown(u16),
    Malformed(&'static str),
}

const SHORT: Refused = Refused::Malformed("it is too short for its content");

/// The number of a message's type, whatever else it is.
pub fn kind_number(bytes: &[u8]) -> usize {
    bytes.get(12..14).map_or(usize::MAX, |at| usize::from(u16::from_be_bytes([at[0], at[1]])))
}

pub fn parse(bytes: &[u8]) -> Result<Message, Refused> {
    let (header, body) = bytes.split_at_checked(HEADER).ok_or(SHORT)?;
    let number = read_version(header).ok_or(SHORT)??;
    let kind = Kind::of(number).ok_or(Refused::Unknown(number))?;
    let (mut message, count, extensions) = read_header(kind, header).ok_or(SHORT)?;
    let mut rest = Reader(body);
    message.body = match kind {
        Kind::Ping | Kind::Pong | Kind::Meet => {
            let nodes = (0..count).map(|_| read_gossip(&mut rest)).collect::<Option<_>>().ok_or(SHORT)?;
            let has_extensions = message.message_flags & mflag::EXTENSIONS != 0;
            let hostname = if has_extensions { read_extensions(&mut rest, extensions)? } else { None };
            Body::Gossip { nodes, hostname }
        }
        Kind::Fail => Body::Fail(rest.name().ok_or(SHORT)?),
        Kind::Publish | Kind::PublishShard => {
            let read = |rest: &mut Reader<'_>| {
                let (channel, message) = (rest.u32()? as usize, rest.u32()? as usize);
                Some((rest.take(channel)?.to_vec(), rest.take(message)?.to_vec()))
            };
            let (channel, message) = read(&mut rest).ok_or(SHORT)?;
            Body::Publish { channel, message }
        }
        Kind::Update => {
            let read = |rest: &mut Reader<'_>| Some((rest.u64()?, rest.name()?, rest.slots()?));
            let (config_epoch, name, slots) = read(&mut rest).ok_or(SHORT)?;
            Body::Update { config_epoch, name, slots }
        }
        Kind::AuthRequest | Kind::AuthAck | Kind::ManualFailoverStart => Body::Empty,
        Kind::Module => {
            rest = Reader(&[]);
            Body::Empty
        }
    };
    if rest.0.is_empty() { Ok(message) } else { Err(Refused::Malformed("it is longer than its content")) }
}

fn read_version(header: &[u8]) -> Option<Result<u16, Refused>> {
    let mut reader = Reader(header.get(8..)?);
    let version = reader.u16()?;
    reader.u16()?;
    let number = reader.u16()?;
    Some(if version == VERSION { Ok(number) } else { Err(Refused::Version) })
}

fn read_header(kind: Kind, header: &[u8]) -> Option<(Message, u16, u16)> {
    let mut reader = Reader(header);
    reader.take(10)?;
    let port = reader.u16()?;
    reader.u16()?;
    let count = reader.u16()?;
    let (current_epoch, config_epoch, offset) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let (sender, slots, primary, ip) = (reader.name()?, reader.slots()?, reader.name()?, reader.text(IP)?);
    let extensions = reader.u16()?;
    reader.take(30)?;
    let (plain_port, bus_port, flags) = (reader.u16()?, reader.u16()?, reader.u16()?);
    let [state, message_flags, _, _] = reader.array()?;
    let primary = Some(primary).filter(|name| *name != Name::NONE);
    let message = Message {
        kind,
        port,
        plain_port,
        bus_port,
        current_epoch,
        config_epoch,
        offset,
        sender,
        slots,
        primary,
        ip,
        flags,
        state,
        message_flags,
        body: Body::Empty,
    };
    Some((message, count, extensions))
}

fn read_gossip(reader: &mut Reader<'_>) -> Option<Gossip> {
    let gossip = Gossip {
        name: reader.name()?,
        ping_sent_s: reader.u32()?,
        pong_received_s: reader.u32()?,
        ip: reader.text(IP)?,
        port: reader.u16()?,
        bus_port: reader.u16()?,
        flags: reader.u16()?,
        plain_port: reader.u16()?,
    };
    reader.u16()?;
    Some(gossip)
}

/// Extensions that we do not know are passed over.
fn read_extensions(reader: &mut Reader<'_>, count: u16) -> Result<Option<String>, Refused> {
    const HOSTNAME: u16 = 0;
    let mut hostname = None;
    for _ in 0..count {
        let (len, kind) = reader.u32().zip(reader.u16()).ok_or(SHORT)?;
        reader.u16().ok_or(SHORT)?;
        if len < 8 || len % 8 != 0 {
            return Err(Refused::Malformed("an extension is not aligned"));
        }
        let data = reader.take(len as usize - 8).ok_or(SHORT)?;
        if kind == HOSTNAME {
            if data.last() != Some(&0) {
                return Err(Refused::Malformed("a host name does not end"));
            }
            hostname = Reader(data).text(data.len());
        }
    }
    Ok(hostname)
}

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + 64);
        let (count, extensions) = match &self.body {
            Body::Gossip { nodes, hostname } => (nodes.len() as u16, u16::from(hostname.is_some())),
            _ => (0, 0),
        };
        let message_flags = self.message_flags | if extensions > 0 { mflag::EXTENSIONS } else { 0 };
        out.extend(b"RCmb\0\0\0\0");
        for number in [VERSION, self.port, self.kind as u16, count] {
            out.extend(number.to_be_bytes());
        }
        for number in [self.current_epoch, self.config_epoch, self.offset] {
            out.extend(number.to_be_bytes());
        }
        out.extend(self.sender.0);
        out.extend(self.slots.to_bytes());
        out.extend(self.primary.unwrap_or(Name::NONE).0);
        put_text(&mut out, &self.ip, IP);
        out.extend(extensions.to_be_bytes());
        out.extend([0; 30]);
        for number in [self.plain_port, self.bus_port, self.flags] {
            out.extend(number.to_be_bytes());
        }
        out.extend([self.state, message_flags, 0, 0]);
        self.encode_body(&mut out);
        let len = out.len() as u32;
        out[4..8].copy_from_slice(&len.to_be_bytes());
        out
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match &self.body {
            Body::Empty => {}
            Body::Gossip { nodes, hostname } => {
                nodes.iter().for_each(|node| node.encode(out));
                if let Some(hostname) = hostname {
                    let padded = (hostname.len() + 1).next_multiple_of(8);
                    out.extend((padded as u32 + 8).to_be_bytes());
                    out.extend([0; 4]);
                    put_text(out, hostname, padded);
                }
            }
            Body::Fail(name) => out.extend(name.0),
            Body::Publish { channel, message } => {
                out.extend((channel.len() as u32).to_be_bytes());
                out.extend((message.len() as u32).to_be_bytes());
                out.extend(channel);
                out.extend(message);
            }
            Body::Update { config_epoch, name, slots } => {
                out.extend(config_epoch.to_be_bytes());
                out.extend(name.0);
                out.extend(slots.to_bytes());
            }
        }
    }
}

impl Gossip {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.name.0);
        out.extend(self.ping_sent_s.to_be_bytes());
        out.extend(self.pong_received_s.to_be_bytes());
        put_text(out, &self.ip, IP);
        for number in [self.port, self.bus_port, self.flags, self.plain_port, 0] {
            out.extend(number.to_be_bytes());
        }
    }
}

/// Text in a field of fixed length, which ends with a zero at least.
fn put_text(out: &mut Vec<u8>, text: &str, len: usize) {
    let bytes = &text.as_bytes()[..text.len().min(len - 1)];
    out.extend(bytes);
    out.resize(out.len() + len - bytes.len(), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: Kind, body: Body) -> Message {
        let mut slots = SlotSet::boxed();
        slots.insert(0);
        slots.insert(16383);
        Message {
            kind,
            port: 7000,
            plain_port: 0,
            bus_port: 17000,
            current_epoch: 7,
            config_epoch: 5,
            offset: 1 << 40,
            sender: Name([b'a'; 40]),
            slots,
            primary: Some(Name([b'b'; 40])),
            ip: "127.0.0.1".into(),
            flags: 0x21,
            state: 1,
            message_flags: 0,
            body,
        }
    }

    fn gossip() -> Gossip {
        Gossip {
            name: Name([b'c'; 40]),
            ping_sent_s: 3,
            pong_received_s: 4,
            ip: "::1".into(),
            port: 1,
            bus_port: 2,
            flags: 8,
            plain_port: 3,
        }
    }

    fn every_body() -> Vec<Message> {
        let slots = SlotSet::boxed();
        let update = Body::Update { config_epoch: 9, name: Name([b'd'; 40]), slots };
        let publish = Body::Publish { channel: b"news".to_vec(), message: vec![0; 5000] };
        vec![
            message(Kind::Ping, Body::Gossip { nodes: vec![], hostname: None }),
            message(Kind::Meet, Body::Gossip { nodes: vec![gossip(), gossip()], hostname: None }),
            message(Kind::Fail, Body::Fail(Name([b'e'; 40]))),
            message(Kind::PublishShard, publish),
            message(Kind::Update, update),
            message(Kind::AuthRequest, Body::Empty),
        ]
    }

    #[test]
    fn comes_back_as_it_was_sent_and_only_whole() {
        for sent in every_body() {
            let bytes = sent.encode();
            assert_eq!(announced_len(bytes[..8].try_into().expect("eight")), Some(bytes.len()));
            assert_eq!(parse(&bytes), Ok(sent.clone()));
            for len in [0, 100, HEADER - 1, bytes.len() - 1] {
                if len < bytes.len() && !(len == HEADER && bytes.len() == HEADER) {
                    assert!(parse(&bytes[..len]).is_err(), "{:?} cut to {len}", sent.kind);
                }
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(parse(&longer).is_err());
        }
    }

    #[test]
    fn a_host_name_is_an_aligned_extension() {
        for hostname in ["h", "seven77", "eight888", "a.long.name.example.org"] {
            let nodes = vec![gossip()];
            let sent = message(Kind::Pong, Body::Gossip { nodes, hostname: Some(hostname.into()) });
            let bytes = sent.encode();
            assert_eq!(bytes.len() % 8, 0);
            let Ok(Message { body: Body::Gossip { hostname: heard, .. }, .. }) = parse(&bytes) else { panic!() };
            assert_eq!(heard.as_deref(), Some(hostname));
            let mut endless = bytes.clone();
            let last = endless.len() - 1;
            endless[last] = b'x';
            let refused = parse(&endless);
            assert_eq!(refused, Err(Refused::Malformed("a host name does not end")));
        }
    }

    #[test]
    fn the_header_has_the_places_of_the_specification() {
        let bytes = message(Kind::Fail, Body::Fail(Name([b'e'; 40]))).encode();
        assert_eq!(bytes.len(), HEADER + 40);
        assert_eq!((&bytes[8..16], bytes[23], bytes[31]), (&[0, 1, 0x1b, 0x58, 0, 3, 0, 0][..], 7, 5));
        assert_eq!((bytes[40], bytes[80], bytes[80 + 2047]), (b'a', 1, 0x80));
        assert_eq!((bytes[2128], &bytes[2168..2177], &bytes[2248..2250]), (b'b', &b"127.0.0.1"[..], &[0x42, 0x68][..]));
        assert_eq!((&bytes[2250..2252], bytes[2252]), (&[0, 0x21][..], 1));
    }

    #[test]
    fn no_bytes_break_the_parser() {
        let mut random = crate::base::random::Random::seeded(7);
        for sent in every_body() {
            let bytes = sent.encode();
            for _ in 0..200 {
                let mut broken = bytes.clone();
                for _ in 0..4 {
                    let at = random.below(broken.len() as u64) as usize;
                    broken[at] = random.next_u64() as u8;
                }
                broken.truncate(random.below(bytes.len() as u64 + 1) as usize);
                let _ = parse(&broken);
            }
        }
    }
}
