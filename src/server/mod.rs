//! Level 4: shared state, sessions, admission, `call`, propagation, session commands. No tokio, no files, no sockets.

pub mod config;
