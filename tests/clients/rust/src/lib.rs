//! What both programs share: the site (see scripts/clients.py) and checks that print `name<TAB>result`.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

pub type Failure = Box<dyn std::error::Error>;

pub fn port(name: &str) -> u16 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no port {name}"))
}

pub fn file(name: &str) -> Vec<u8> {
    let path = std::env::var(name).unwrap_or_else(|_| panic!("no file {name}"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Prints a check's result; a failed one ends the program.
pub async fn check<T: Debug>(name: &str, body: impl Future<Output = Result<T, Failure>>) {
    match body.await {
        Ok(result) => println!("{name}\t{result:?}"),
        Err(error) => {
            eprintln!("{name}: {error}");
            std::process::exit(1);
        }
    }
}

/// Polls until the condition holds; errors count as no.
pub async fn until<E>(what: &str, mut condition: impl AsyncFnMut() -> Result<bool, E>) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(25);
    while !condition().await.unwrap_or(false) {
        if Instant::now() > deadline {
            return Err(format!("waited in vain until {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Whether the text of `INFO server` is of the server at the port.
pub fn is_at(info: &str, port: u16) -> bool {
    info.lines().any(|line| line.trim_end() == format!("tcp_port:{port}"))
}
