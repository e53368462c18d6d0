//! One connection to an instance: dialed, fed with requests, read for replies, until it ends or is closed from our side.

use super::instance::ConnId;
use super::service::Service;
use super::watch::PeerReply;
use crate::net::dial::{self, Dial};
use crate::net::stream::Stream;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// Longer than the machine waits for a sign of life; just not for ever.
const DIAL_TIMEOUT: Duration = Duration::from_secs(60);
/// No INFO is as long as this.
const INPUT_MAX: usize = 16 << 20;
/// Nor has any reply so many elements.
const ELEMENTS_MAX: usize = 1024;
const PIECE: usize = 16 * 1024;

/// Requests to be sent; its end closes the connection.
pub type Requests = UnboundedReceiver<Vec<u8>>;

pub async fn serve(service: &'static Service, conn: ConnId, ip: String, port: u16, mut requests: Requests) {
    let mut output = Vec::new();
    let dialed = tokio::select! {
        dialed = dial(service, &ip, port) => dialed,
        // Whatever is to be sent first waits here; only the end of all requests gets through.
        () = collect(&mut requests, &mut output) => return,
    };
    if let Ok(mut stream) = dialed {
        let (_, local) = stream.addresses();
        service.change(|core, now_ms| {
            core.connected(now_ms, conn, local.map(|local| local.ip().to_canonical().to_string()))
        });
        let mut input = Vec::new();
        while let Ok(Next::Read) = turn(&mut stream, &mut requests, &mut output, &mut input).await {
            match split(&mut input) {
                Ok(replies) => service.change(|core, now_ms| {
                    replies.into_iter().for_each(|reply| core.replied(now_ms, conn, reply));
                }),
                Err(Nonsense) => break,
            }
        }
        stream.say_goodbye();
        stream.hang_up();
    }
    service.drop_conn(conn);
}

async fn dial(service: &'static Service, ip: &str, port: u16) -> io::Result<Stream> {
    let server = service.server;
    let config = server.config.current();
    let source = config.bind_source_addr.as_ref().and_then(|source| source.parse().ok());
    let dial = Dial { source, timeout: DIAL_TIMEOUT };
    match server.tls.client() {
        Some(tls) if config.tls_replication => dial::tls(ip, port, &dial, tls).await,
        // With tls-replication there always is a context: the setting is refused otherwise.
        _ => dial::tcp(ip, port, &dial).await,
    }
}

async fn collect(requests: &mut Requests, output: &mut Vec<u8>) {
    while let Some(bytes) = requests.recv().await {
        output.extend(bytes);
    }
}

enum Next {
    /// There is input.
    Read,
    /// Closed, by either side.
    End,
}

/// Writes what there is to write until something is read.
async fn turn(
    stream: &mut Stream,
    requests: &mut Requests,
    output: &mut Vec<u8>,
    input: &mut Vec<u8>,
) -> io::Result<Next> {
    poll_fn(|context| {
        loop {
            match requests.poll_recv(context) {
                Poll::Ready(Some(bytes)) => output.extend(bytes),
                Poll::Ready(None) => return Poll::Ready(Ok(Next::End)),
                Poll::Pending => break,
            }
        }
        while !output.is_empty() {
            match stream.poll_write(context, output)? {
                Poll::Ready(0) => return Poll::Ready(Ok(Next::End)),
                Poll::Ready(len) => drop(output.drain(..len)),
                Poll::Pending => break,
            }
        }
        // Pending: its waker is set, and what follows may be ready.
        let _ = stream.poll_flush(context)?;
        let old = input.len();
        input.resize(old + PIECE, 0);
        let read = stream.poll_read(context, &mut input[old..]);
        input.truncate(old + if let Poll::Ready(Ok(len)) = &read { *len } else { 0 });
        match read? {
            Poll::Ready(0) => Poll::Ready(Ok(Next::End)),
            Poll::Ready(_) => Poll::Ready(Ok(Next::Read)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What came is not the protocol, or no reply to anything that is asked here.
#[derive(Debug, PartialEq, Eq)]
struct Nonsense;

/// Takes the whole replies off the front.
fn split(input: &mut Vec<u8>) -> Result<Vec<PeerReply>, Nonsense> {
    let (mut replies, mut start) = (Vec::new(), 0);
    while let Some((reply, len)) = next(&input[start..])? {
        replies.push(reply);
        start += len;
    }
    input.drain(..start);
    if input.len() > INPUT_MAX { Err(Nonsense) } else { Ok(replies) }
}

/// Arrays are taken apart here, one level deep: the decoder would follow any depth, and its stack with it.
fn next(bytes: &[u8]) -> Result<Option<(PeerReply, usize)>, Nonsense> {
    if bytes.first() != Some(&b'*') {
        return element(bytes);
    }
    let Some(end) = bytes.windows(2).take(ARRAY_HEADER_MAX).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > ARRAY_HEADER_MAX { Err(Nonsense) } else { Ok(None) };
    };
    let count = std::str::from_utf8(&bytes[1..end]).ok().and_then(|text| text.parse::<i64>().ok()).ok_or(Nonsense)?;
    let mut at = end + 2;
    if count == -1 {
        return Ok(Some((PeerReply::Other, at)));
    }
    let count = usize::try_from(count).ok().filter(|count| *count <= ELEMENTS_MAX).ok_or(Nonsense)?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        let Some((item, len)) = element(&bytes[at..])? else { return Ok(None) };
        items.push(item);
        at += len;
    }
    Ok(Some((PeerReply::Array(items), at)))
}

const ARRAY_HEADER_MAX: usize = 24;

fn element(bytes: &[u8]) -> Result<Option<(PeerReply, usize)>, Nonsense> {
    match bytes.first() {
        None => return Ok(None),
        Some(b'*') => return Err(Nonsense),
        Some(_) => {}
    }
    let Some((frame, len)) = decode(bytes).map_err(|_| Nonsense)? else { return Ok(None) };
    let reply = match frame {
        OwnedFrame::SimpleString(text) => PeerReply::Status(text),
        OwnedFrame::Error(text) => PeerReply::Error(text.into_bytes()),
        OwnedFrame::BulkString(bytes) => PeerReply::Bulk(bytes),
        OwnedFrame::Integer(number) => PeerReply::Integer(number),
        OwnedFrame::Array(_) | OwnedFrame::Null => PeerReply::Other,
    };
    Ok(Some((reply, len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_found_wherever_the_bytes_are_cut() {
        let bytes = b"+PONG\r\n-BUSY x\r\n$5\r\na\r\nbc\r\n*3\r\n:1\r\n$1\r\n*\r\n:7\r\n*-1\r\n$-1\r\n*0\r\n";
        let whole = vec![
            PeerReply::Status(b"PONG".to_vec()),
            PeerReply::Error(b"BUSY x".to_vec()),
            PeerReply::Bulk(b"a\r\nbc".to_vec()),
            PeerReply::Array(vec![PeerReply::Integer(1), PeerReply::Bulk(b"*".to_vec()), PeerReply::Integer(7)]),
            PeerReply::Other,
            PeerReply::Other,
            PeerReply::Array(vec![]),
        ];
        for cut in 0..bytes.len() {
            let mut input = bytes[..cut].to_vec();
            let mut replies = split(&mut input).expect("good bytes");
            input.extend_from_slice(&bytes[cut..]);
            replies.extend(split(&mut input).expect("good bytes"));
            assert_eq!((replies, input.len()), (whole.clone(), 0), "cut at {cut}");
        }
    }

    #[test]
    fn nonsense_ends_the_connection() {
        for bytes in [
            b"HTTP/1.1 400\r\n".as_slice(),
            b"*1\r\n*1\r\n:1\r\n",
            b"*99999\r\n",
            b"*x\r\n",
            b"*-2\r\n",
            b"*000000000000000000000000000001\r\n",
            b"$x\r\n",
        ] {
            assert_eq!(split(&mut bytes.to_vec()), Err(Nonsense), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
