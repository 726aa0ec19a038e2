//! Lua scripts and commands as calls: the command, the name of its metrics, and the slot of its keys.

use std::sync::OnceLock;

use redis::{Cmd, ToRedisArgs};

use super::slot::slot_of;

/// A Lua script as a constant. The server keeps it by its hash; a server that has lost it (a restart, `SCRIPT FLUSH`)
/// gets it again with the next call.
pub struct Script {
    name: &'static str,
    code: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    /// A script under the name of its metrics: `static TAKE: Script = Script::new("take_slot", "return ..");`
    pub const fn new(name: &'static str, code: &'static str) -> Self {
        Self { name, code, hash: OnceLock::new() }
    }

    fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.code).get_hash().to_owned())
    }

    /// A call of the script. All keys must be in one hash slot; a common part in braces ensures that, see
    /// [`RedisLink::key`](super::RedisLink::key).
    pub fn on(&'static self, keys: &[&str]) -> Call {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.hash()).arg(keys.len()).arg(keys);
        let slot = keys.first().map(|key| slot_of(key.as_bytes()));
        debug_assert!(
            keys.iter().all(|key| Some(slot_of(key.as_bytes())) == slot),
            "the keys of {} are not in one slot",
            self.name
        );
        Call { name: self.name, cmd, slot, script: Some(self) }
    }

    /// The command that loads the script into a server.
    pub(super) fn load(&self) -> Cmd {
        redis::cmd("SCRIPT").arg("LOAD").arg(self.code).take()
    }
}

/// One command on its way to Redis.
pub struct Call {
    pub(super) name: &'static str,
    pub(super) cmd: Cmd,
    /// Its hash slot on a cluster. `None`: any server.
    pub(super) slot: Option<u16>,
    pub(super) script: Option<&'static Script>,
}

impl Call {
    /// A command by its verb, measured as `name`.
    pub fn command(name: &'static str, verb: &str) -> Self {
        Self { name, cmd: redis::cmd(verb), slot: None, script: None }
    }

    /// Adds a key. The first key sets the slot of the call; all keys of one call must be in that slot.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        let slot = slot_of(key.as_bytes());
        debug_assert!(self.slot.is_none_or(|first| first == slot), "the keys of {} are not in one slot", self.name);
        self.slot.get_or_insert(slot);
        self.cmd.arg(key);
        self
    }

    /// Adds an argument; a list adds each of its items.
    #[must_use]
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.cmd.arg(arg);
        self
    }
}
