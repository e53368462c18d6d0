//! Level 1: the wire. Requests in, replies out, both on plain byte buffers; no sockets.

pub mod argv;
pub mod encode;
pub mod reply;
pub mod request;

pub use argv::{Args, OwnedArgs, Range};
pub use encode::encode;
pub use reply::Reply;
pub use request::{Batch, Limits, ProtocolError, RequestParser};
