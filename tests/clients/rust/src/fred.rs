//! The crate `fred` doing everyday work, in RESP2 and RESP3: a program of scripts/clients.py.

use std::time::Duration;

use fred::clients::SubscriberClient;
use fred::interfaces::TrackingInterface;
use fred::prelude::*;
use fred::rustls::pki_types::pem::PemObject;
use fred::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use fred::rustls::{ClientConfig, RootCertStore};
use fred::types::RespVersion;
use fred::types::config::{Server, TlsConnector};
use rsredis_clients::{Failure, check, file, is_at, port, until};

fn config(version: RespVersion) -> Config {
    Config { server: ServerConfig::new_centralized("127.0.0.1", port("PORT")), version, ..Config::default() }
}

async fn connect(config: Config) -> Result<Client, Error> {
    let client = Builder::from_config(config).build()?;
    client.init().await?;
    Ok(client)
}

async fn values(c: &Client) -> Result<Vec<String>, Failure> {
    let _: Value = c.set("k", "v", Some(Expiration::EX(100)), None, false).await?;
    let _: Value = c.hset("h", vec![("a", "1"), ("b", "two")]).await?;
    let _: Value = c.zadd("z", None, None, false, false, vec![(1.0, "a"), (2.5, "b")]).await?;
    let _: Value = c.rpush("l", vec![1, 2, 3]).await?;
    let _: Value = c.xadd("x", false, None, "1-1", vec![("f", "v")]).await?;
    Ok(vec![
        format!("{:?}", c.get::<Value, _>("k").await?),
        format!("{:?}", c.get::<Value, _>("none").await?),
        format!("{:?}", c.hmget::<Value, _, _>("h", vec!["a", "b", "none"]).await?),
        format!("{:?}", c.zrange::<Value, _, _, _>("z", 0, -1, None, false, None, true).await?),
        format!("{:?}", c.zscore::<Value, _, _>("z", "b").await?),
        format!("{:?}", c.lrange::<Value, _>("l", 0, -1).await?),
        format!("{:?}", c.xrange::<Value, _, _, _>("x", "-", "+", None).await?),
        format!("{:?}", c.sismember::<Value, _, _>("s", "x").await?),
        format!("{:?}", c.incr::<Value, _>("h").await),
    ])
}

async fn pipelines(c: &Client) -> Result<(usize, i64), Failure> {
    let pipeline = c.pipeline();
    for i in 0..10_000 {
        let () = pipeline.incr_by("n", i).await?;
    }
    let replies: Vec<i64> = pipeline.all().await?;
    Ok((replies.len(), replies[9_999]))
}

async fn transactions(c: &Client) -> Result<String, Failure> {
    let transaction = c.multi();
    let () = transaction.set("t", 1, None, None, false).await?;
    let () = transaction.incr("t").await?;
    let () = transaction.get("t").await?;
    let done: Value = transaction.exec(true).await?;
    let broken = c.multi();
    let () = broken.set("t", 1, None, None, false).await?;
    let () = broken.lpush("t", "x").await?;
    Ok(format!("{done:?} {:?}", broken.exec::<Value>(true).await))
}

async fn messages(c: &Client, version: RespVersion) -> Result<Vec<String>, Failure> {
    let subscriber: SubscriberClient = Builder::from_config(config(version)).build_subscriber_client()?;
    subscriber.init().await?;
    let mut inbox = subscriber.message_rx();
    subscriber.subscribe("one").await?;
    subscriber.psubscribe("t*").await?;
    // fred does not wait for the server to confirm a subscription.
    while c.pubsub_numpat::<i64>().await? == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let counts: (i64, i64) = (c.publish("one", "1").await?, c.publish("two", "2").await?);
    assert_eq!(counts, (1, 1));
    let mut got = Vec::new();
    while got.len() < 2 {
        let message = tokio::time::timeout(Duration::from_secs(5), inbox.recv()).await??;
        got.push(format!("{:?} {} {:?}", message.kind, message.channel, message.value));
    }
    subscriber.quit().await?;
    Ok(got)
}

async fn scripts(c: &Client) -> Result<(i64, i64), Failure> {
    let digest: String = c.script_load("return redis.call('INCRBY', KEYS[1], ARGV[1])").await?;
    Ok((c.evalsha(digest.as_str(), "sc", 5).await?, c.evalsha(digest.as_str(), "sc", 5).await?))
}

async fn blocking(c: &Client) -> Result<(Value, String), Failure> {
    let waiter = c.clone_new();
    waiter.init().await?;
    let pushing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        c.rpush::<i64, _, _>("q2", "job").await
    };
    let (popped, pushed) = futures_util::future::join(waiter.blpop(vec!["q1", "q2"], 5.0), pushing).await;
    pushed?;
    let result = (popped?, format!("{:?}", waiter.blpop::<Value, _>("none", 0.05).await));
    waiter.quit().await?;
    Ok(result)
}

async fn acl(c: &Client, version: RespVersion) -> Result<Vec<String>, Failure> {
    let () = c
        .acl_setuser("bob", vec!["on", ">pw", "~bob:*", "+get", "+set", "+info", "+ping", "+client", "+hello"])
        .await?;
    let as_bob = |password: &str| Config {
        username: Some("bob".into()),
        password: Some(password.into()),
        ..config(version.clone())
    };
    let bob = connect(as_bob("pw")).await?;
    let result = vec![
        format!("{:?}", bob.set::<Value, _, _>("bob:k", "v", None, None, false).await),
        format!("{:?}", bob.get::<Value, _>("other").await),
        format!("{:?}", bob.del::<Value, _>("bob:k").await),
        format!("{:?}", connect(as_bob("no")).await.map(drop)),
    ];
    bob.quit().await?;
    let () = c.acl_deluser("bob").await?;
    Ok(result)
}

/// fred keeps no cache itself, it tells of the keys that are stale.
async fn tracking(c: &Client) -> Result<String, Failure> {
    let reader = connect(config(RespVersion::RESP3)).await?;
    let mut stale = reader.invalidation_rx();
    reader.start_tracking(None, false, false, false, false).await?;
    let _: Value = reader.get("cached").await?;
    let () = c.set("cached", "new", None, None, false).await?;
    let told = tokio::time::timeout(Duration::from_secs(5), stale.recv()).await??;
    reader.quit().await?;
    Ok(format!("{:?}", told.keys))
}

async fn tls(c: &Client) -> Result<Value, Failure> {
    fred::rustls::crypto::ring::default_provider().install_default().ok();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&file("CA"))?)?;
    let identity = (CertificateDer::from_pem_slice(&file("CERT"))?, PrivateKeyDer::from_pem_slice(&file("KEY"))?);
    let tls =
        ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(vec![identity.0], identity.1)?;
    let secure = Config {
        server: ServerConfig::new_centralized("localhost", port("TLS_PORT")),
        tls: Some(TlsConnector::from(tls).into()),
        ..Config::default()
    };
    let secure = connect(secure).await?;
    let () = secure.set("over", "tls", None, None, false).await?;
    secure.quit().await?;
    Ok(c.get("over").await?)
}

async fn sentinel() -> Result<Vec<String>, Failure> {
    let sentinel = Server::new("127.0.0.1", port("SENTINEL_PORT"));
    let server = ServerConfig::Sentinel { hosts: vec![sentinel], service_name: "main".into() };
    let c = Builder::from_config(Config { server, ..Config::default() })
        .with_performance_config(|performance| performance.default_command_timeout = Duration::from_secs(2))
        .set_policy(ReconnectPolicy::new_constant(0, 100))
        .build()?;
    c.init().await?;
    let () = c.set("before", 1, None, None, false).await?;
    let replicas: i64 = c.wait(1, 5000).await?;
    assert_eq!(replicas, 1);
    let control = config(RespVersion::RESP2);
    let control = Config { server: ServerConfig::new_centralized("127.0.0.1", port("SENTINEL_PORT")), ..control };
    let control = connect(control).await?;
    let () = control.custom(fred::cmd!("SENTINEL"), vec!["FAILOVER", "main"]).await?;
    until("the client follows", async || {
        let () = c.set("after", 2, None, None, false).await?;
        Ok::<_, Error>(is_at(&c.info::<String>(Some(fred::types::InfoKind::Server)).await?, port("REPLICA_PORT")))
    })
    .await?;
    Ok(c.mget(vec!["before", "after"]).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    for version in [RespVersion::RESP2, RespVersion::RESP3] {
        let c = &connect(config(version.clone())).await?;
        let () = c.flushall(false).await?;
        let name = |check: &str| format!("{version:?} {check}");
        check(&name("values"), values(c)).await;
        check(&name("pipelines"), pipelines(c)).await;
        check(&name("transactions"), transactions(c)).await;
        check(&name("messages"), messages(c, version.clone())).await;
        check(&name("scripts"), scripts(c)).await;
        check(&name("blocking"), blocking(c)).await;
        check(&name("acl"), acl(c, version.clone())).await;
        check(&name("tracking"), tracking(c)).await;
        check(&name("tls"), tls(c)).await;
    }
    check("sentinel", sentinel()).await;
    Ok(())
}
