//! The crate `redis` doing everyday work, in RESP2 and RESP3: a program of scripts/clients.py.

use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::caching::CacheConfig;
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, ClientTlsConfig, Script, TlsCertificates, Value, cmd, pipe};
use rsredis_clients::{Failure, check, file, is_at, port, until};

fn client(protocol: &str) -> Client {
    Client::open(format!("redis://127.0.0.1:{}/?protocol={protocol}", port("PORT"))).expect("an address")
}

async fn values(mut c: MultiplexedConnection) -> Result<Vec<Value>, Failure> {
    let mut replies = Vec::new();
    for line in [
        "SET k v EX 100",
        "GET k",
        "GET none",
        "HSET h a 1 b two",
        "HGETALL h",
        "ZADD z 1 a 2.5 b",
        "ZSCORE z b",
        "ZRANGE z 0 -1 WITHSCORES",
        "SADD s x",
        "SMEMBERS s",
        "SISMEMBER s x",
        "RPUSH l 1 2 3",
        "LRANGE l 0 -1",
        "XADD x 1-1 f v",
        "XRANGE x - +",
        "XINFO GROUPS x",
        "CONFIG GET maxmemory",
        "DEBUG",
        "INCR h",
        "NOSUCH a",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let reply = cmd(words[0]).arg(&words[1..]).query_async(&mut c).await;
        replies.push(reply.unwrap_or_else(|error| Value::SimpleString(error.to_string())));
    }
    Ok(replies)
}

async fn pipelines(mut c: MultiplexedConnection) -> Result<(usize, i64), Failure> {
    let mut pipeline = pipe();
    for i in 0..10_000 {
        pipeline.incr("n", i);
    }
    let replies: Vec<i64> = pipeline.query_async(&mut c).await?;
    Ok((replies.len(), replies[9_999]))
}

async fn transactions(client: Client, mut c: MultiplexedConnection) -> Result<(Value, Value, String), Failure> {
    let done: Value = pipe().atomic().set("t", 1).incr("t", 1).get("t").query_async(&mut c).await?;
    let mut watcher = client.get_multiplexed_async_connection().await?;
    let () = cmd("WATCH").arg("t").query_async(&mut watcher).await?;
    let () = c.set("t", "changed").await?;
    let lost: Value = pipe().atomic().set("t", "mine").query_async(&mut watcher).await?;
    let wrong = pipe().atomic().set("t", 1).lpush("t", "x").query_async::<Value>(&mut c).await;
    Ok((done, lost, format!("{wrong:?}")))
}

async fn messages(client: Client, mut c: MultiplexedConnection) -> Result<Vec<(String, String)>, Failure> {
    let mut subscriber = client.get_async_pubsub().await?;
    subscriber.subscribe("one").await?;
    subscriber.psubscribe("t*").await?;
    let count: (i64, i64) = (c.publish("one", 1).await?, c.publish("two", 2).await?);
    assert_eq!(count, (1, 1));
    let mut got = Vec::new();
    let mut stream = subscriber.on_message();
    while got.len() < 2 {
        let message = tokio::time::timeout(Duration::from_secs(5), stream.next()).await?.ok_or("the stream ended")?;
        got.push((message.get_channel_name().to_string(), message.get_payload()?));
    }
    Ok(got)
}

async fn scripts(mut c: MultiplexedConnection) -> Result<(i64, i64, Value), Failure> {
    let () = cmd("SCRIPT").arg("FLUSH").query_async(&mut c).await?;
    let add = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let (first, second) =
        (add.key("sc").arg(5).invoke_async(&mut c).await?, add.key("sc").arg(5).invoke_async(&mut c).await?);
    Ok((first, second, Script::new("return {KEYS[1], 3.9, false}").key("k").invoke_async(&mut c).await?))
}

async fn blocking(client: Client, mut c: MultiplexedConnection) -> Result<(Value, Value), Failure> {
    let mut waiter = client.get_multiplexed_async_connection().await?;
    let popping = async { waiter.blpop(&["q1", "q2"], 5.0).await };
    let pushing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        c.rpush::<_, _, i64>("q2", "job").await
    };
    let (popped, pushed) = futures_util::future::join(popping, pushing).await;
    pushed?;
    Ok((popped?, c.blpop("none", 0.05).await?))
}

async fn acl(mut c: MultiplexedConnection) -> Result<Vec<String>, Failure> {
    let () = cmd("ACL").arg(&["SETUSER", "bob", "on", ">pw", "~bob:*", "+get", "+set"]).query_async(&mut c).await?;
    let address = |password: &str| format!("redis://bob:{password}@127.0.0.1:{}", port("PORT"));
    let mut bob = Client::open(address("pw"))?.get_multiplexed_async_connection().await?;
    let result = vec![
        format!("{:?}", bob.set::<_, _, Value>("bob:k", "v").await),
        format!("{:?}", bob.get::<_, Value>("other").await),
        format!("{:?}", bob.del::<_, Value>("bob:k").await),
        format!("{:?}", Client::open(address("no"))?.get_multiplexed_async_connection().await.map(drop)),
    ];
    let () = cmd("ACL").arg(&["DELUSER", "bob"]).query_async(&mut c).await?;
    Ok(result)
}

async fn caching(mut c: MultiplexedConnection) -> Result<(String, usize), Failure> {
    let config = AsyncConnectionConfig::new().set_cache_config(CacheConfig::new());
    let mut cached = client("resp3").get_multiplexed_async_connection_with_config(&config).await?;
    let () = c.set("cached", "old").await?;
    for _ in 0..10 {
        let _: String = cached.get("cached").await?;
    }
    let hits = cached.get_cache_statistics().ok_or("no cache")?.hit;
    let () = c.set("cached", "new").await?;
    until("the invalidation is there", async || {
        Ok::<_, redis::RedisError>(cached.get::<_, String>("cached").await? == "new")
    })
    .await?;
    Ok((cached.get("cached").await?, hits))
}

async fn tls(mut c: MultiplexedConnection) -> Result<Value, Failure> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let identity = ClientTlsConfig { client_cert: file("CERT"), client_key: file("KEY") };
    let certificates = TlsCertificates { client_tls: Some(identity), root_cert: Some(file("CA")) };
    let client = Client::build_with_tls(format!("rediss://localhost:{}", port("TLS_PORT")), certificates)?;
    let mut secure = client.get_multiplexed_async_connection().await?;
    let () = secure.set("over", "tls").await?;
    Ok(c.get("over").await?)
}

async fn sentinel() -> Result<(String, Vec<String>), Failure> {
    let nodes = vec![format!("redis://127.0.0.1:{}", port("SENTINEL_PORT"))];
    let name = String::from("main");
    let follower = |role| SentinelClient::build(nodes.clone(), name.clone(), None, role);
    let mut primary = follower(SentinelServerType::Master)?;
    let mut c = primary.get_async_connection().await?;
    let () = c.set("before", 1).await?;
    let replicas: i64 = cmd("WAIT").arg(&[1, 5000]).query_async(&mut c).await?;
    assert_eq!(replicas, 1);
    let read = follower(SentinelServerType::Replica)?.get_async_connection().await?.get("before").await?;
    let mut control = Client::open(nodes[0].as_str())?.get_multiplexed_async_connection().await?;
    let () = cmd("SENTINEL").arg(&["FAILOVER", "main"]).query_async(&mut control).await?;
    until("the client follows", async || {
        c = primary.get_async_connection().await?;
        let () = c.set("after", 2).await?;
        Ok::<_, redis::RedisError>(is_at(
            &cmd("INFO").arg("server").query_async::<String>(&mut c).await?,
            port("REPLICA_PORT"),
        ))
    })
    .await?;
    Ok((read, c.mget(&["before", "after"]).await?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    for protocol in ["resp2", "resp3"] {
        let client = client(protocol);
        let mut c = client.get_multiplexed_async_connection().await?;
        let () = cmd("FLUSHALL").query_async(&mut c).await?;
        check(&format!("{protocol} values"), values(c.clone())).await;
        check(&format!("{protocol} pipelines"), pipelines(c.clone())).await;
        check(&format!("{protocol} transactions"), transactions(client.clone(), c.clone())).await;
        check(&format!("{protocol} messages"), messages(client.clone(), c.clone())).await;
        check(&format!("{protocol} scripts"), scripts(c.clone())).await;
        check(&format!("{protocol} blocking"), blocking(client.clone(), c.clone())).await;
        check(&format!("{protocol} acl"), acl(c.clone())).await;
        check(&format!("{protocol} caching"), caching(c.clone())).await;
        check(&format!("{protocol} tls"), tls(c.clone())).await;
    }
    check("sentinel", sentinel()).await;
    Ok(())
}
