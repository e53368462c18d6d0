//! What is known of the watched: primaries, their replicas, and the other sentinels that watch the same primary.
//!
//! ```text
//!   Primary ──┬─ replicas   by ip:port      what they have in common (name, address, link, SDOWN) is an Instance;
//!             └─ sentinels  by id           the rest is kept beside it under the same Id
//! ```
//! Sentinels of several primaries may be the same process: they share one Link, so that there is one connection and one PING.

use super::address::Address;
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Primary,
    Replica,
    Sentinel,
}

impl Kind {
    /// As events and replies call it.
    pub fn wire_name(self) -> &'static str {
        match self {
            Kind::Primary => "master",
            Kind::Replica => "slave",
            Kind::Sentinel => "sentinel",
        }
    }
}

/// The role that an instance reports in INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
    /// No line of INFO told.
    Unknown,
}

/// What all kinds have in common. Times are milliseconds; 0 means never.
#[derive(Debug)]
pub struct Instance {
    pub kind: Kind,
    pub name: String,
    /// Of a sentinel its id, of others the run id that INFO tells.
    pub run_id: Option<String>,
    pub addr: Address,
    pub link: LinkId,
    /// Whose replica or sentinel it is.
    pub primary: Option<Id>,
    pub last_publish_ms: i64,
    pub s_down: bool,
    pub s_down_since_ms: i64,
    pub down_after_ms: i64,
    /// When INFO was answered last.
    pub info_ms: i64,
    /// Its text, for INFO-CACHE.
    pub info: Option<Vec<u8>>,
    pub script_kill_sent: bool,
    pub role: Role,
    pub role_since_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    None,
    WaitStart,
    SelectReplica,
    SendReplicaOfNoOne,
    WaitPromotion,
    ReconfigureReplicas,
    UpdateConfig,
}

impl Stage {
    pub fn wire_name(self) -> &'static str {
        match self {
            Stage::None => "none",
            Stage::WaitStart => "wait_start",
            Stage::SelectReplica => "select_slave",
            Stage::SendReplicaOfNoOne => "send_slaveof_noone",
            Stage::WaitPromotion => "wait_promotion",
            Stage::ReconfigureReplicas => "reconf_slaves",
            Stage::UpdateConfig => "update_config",
        }
    }
}

#[derive(Debug)]
pub struct Failover {
    pub stage: Stage,
    pub in_progress: bool,
    /// SENTINEL FAILOVER: nobody is asked.
    pub forced: bool,
    pub epoch: u64,
    pub stage_since_ms: i64,
    /// When the last attempt began, of this or of another sentinel that got our vote.
    pub start_ms: i64,
    pub timeout_ms: i64,
    /// The start for which the log has told when the next attempt may come.
    pub delay_told_for_ms: i64,
    pub promoted: Option<Id>,
}

#[derive(Debug)]
pub struct Primary {
    pub config_epoch: u64,
    pub replicas: BTreeMap<String, Id>,
    pub sentinels: BTreeMap<String, Id>,
    pub quorum: u32,
    pub parallel_syncs: i64,
    pub auth_pass: Option<Vec<u8>>,
    pub auth_user: Option<Vec<u8>>,
    /// By the name in upper case: as it was written, and what it is called there.
    pub renamed: BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)>,
    pub o_down: bool,
    pub o_down_since_ms: i64,
    /// Whom this sentinel has voted for, and in which epoch.
    pub leader: Option<String>,
    pub leader_epoch: u64,
    pub failover: Failover,
    pub notification_script: Option<Vec<u8>>,
    pub client_reconfig_script: Option<Vec<u8>>,
    /// A primary that has restarted counts as down after so long, even if it answers -LOADING; 0: it does not.
    pub reboot_down_after_ms: i64,
    pub reboot_since_ms: i64,
    pub is_rebooting: bool,
}

/// How far a replica is on its way to the new primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconf {
    None,
    Sent,
    InProgress,
    Done,
}

#[derive(Debug)]
pub struct Replica {
    pub link_down_ms: i64,
    pub priority: i64,
    pub is_announced: bool,
    pub is_promoted: bool,
    pub reconf: Reconf,
    pub reconf_sent_ms: i64,
    pub master_host: Option<String>,
    pub master_port: i64,
    pub master_link_up: bool,
    /// When it was seen to change its primary.
    pub conf_change_ms: i64,
    pub offset: u64,
}

/// Another sentinel, as one that watches a certain primary.
#[derive(Debug)]
pub struct Other {
    pub last_hello_ms: i64,
    pub last_answer_ms: i64,
    /// It takes the primary for down.
    pub says_down: bool,
    pub leader: Option<String>,
    pub leader_epoch: u64,
}

/// What a request was, so that its reply is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Its effect is seen in INFO, or not.
    Ignored,
    Ping,
    Info,
    Publish,
    AskDown,
    Subscribe,
}

#[derive(Debug)]
pub struct Conn {
    pub id: ConnId,
    pub since_ms: i64,
    /// Ours, once it stands: what the hello channel is told if nothing else is configured.
    pub local_ip: Option<String>,
    pub waiting: VecDeque<(Id, Request)>,
}

/// The two connections of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Commands,
    /// Subscribed to the hello channel; sentinels have none.
    Hello,
}

#[derive(Debug)]
pub struct Link {
    /// Instances that share it.
    pub users: usize,
    /// One of the connections is missing.
    pub disconnected: bool,
    pub commands: Option<Conn>,
    pub hello: Option<Conn>,
    pub hello_activity_ms: i64,
    /// When PING was last answered well.
    pub available_ms: i64,
    /// The oldest PING without a good answer; 0 if there is none.
    pub ping_pending_ms: i64,
    pub last_ping_ms: i64,
    /// When PING was last answered at all.
    pub last_pong_ms: i64,
    pub last_reconnect_ms: i64,
}

impl Link {
    /// The time of birth counts as that of a PING, so that an instance which is never reached is found to be down.
    pub fn new(now_ms: i64) -> Self {
        Link {
            users: 1,
            disconnected: true,
            commands: None,
            hello: None,
            hello_activity_ms: 0,
            available_ms: now_ms,
            ping_pending_ms: now_ms,
            last_ping_ms: 0,
            last_pong_ms: now_ms,
            last_reconnect_ms: 0,
        }
    }

    pub fn conn(&self, way: Way) -> Option<&Conn> {
        match way {
            Way::Commands => self.commands.as_ref(),
            Way::Hello => self.hello.as_ref(),
        }
    }

    pub fn slot(&mut self, way: Way) -> &mut Option<Conn> {
        match way {
            Way::Commands => &mut self.commands,
            Way::Hello => &mut self.hello,
        }
    }

    pub fn pending(&self) -> usize {
        [Way::Commands, Way::Hello].iter().filter_map(|way| self.conn(*way)).map(|conn| conn.waiting.len()).sum()
    }
}

impl Primary {
    pub fn new(quorum: u32, failover_timeout_ms: i64) -> Self {
        Primary {
            config_epoch: 0,
            replicas: BTreeMap::new(),
            sentinels: BTreeMap::new(),
            quorum,
            parallel_syncs: PARALLEL_SYNCS,
            auth_pass: None,
            auth_user: None,
            renamed: BTreeMap::new(),
            o_down: false,
            o_down_since_ms: 0,
            leader: None,
            leader_epoch: 0,
            failover: Failover {
                stage: Stage::None,
                in_progress: false,
                forced: false,
                epoch: 0,
                stage_since_ms: 0,
                start_ms: 0,
                timeout_ms: failover_timeout_ms,
                delay_told_for_ms: 0,
                promoted: None,
            },
            notification_script: None,
            client_reconfig_script: None,
            reboot_down_after_ms: 0,
            reboot_since_ms: 0,
            is_rebooting: false,
        }
    }
}

impl Replica {
    pub fn new(now_ms: i64) -> Self {
        Replica {
            link_down_ms: 0,
            priority: PRIORITY,
            is_announced: true,
            is_promoted: false,
            reconf: Reconf::None,
            reconf_sent_ms: 0,
            master_host: None,
            master_port: 0,
            master_link_up: false,
            conf_change_ms: now_ms,
            offset: 0,
        }
    }
}

impl Other {
    pub fn new(now_ms: i64) -> Self {
        Other { last_hello_ms: now_ms, last_answer_ms: now_ms, says_down: false, leader: None, leader_epoch: 0 }
    }
}

pub const PARALLEL_SYNCS: i64 = 1;
/// replica-priority of one that does not tell.
const PRIORITY: i64 = 100;
