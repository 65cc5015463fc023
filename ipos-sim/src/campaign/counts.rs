//! What happened on the farms of a campaign.

use std::fmt;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// What happened on one farm, or on many.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[$doc])* pub $name: u64,)* }

        impl Counts {
            /// Adds what happened elsewhere.
            pub fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
            }

            /// Every count with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($label, self.$name),)*].into_iter()
            }
        }
    };
}

counts! {
    /// Farms.
    farms = "farms",
    /// Servers, each counted once however often it was started.
    servers = "servers",
    /// Connections of clients.
    connections = "connections",
    /// Their requests.
    requests = "requests",
    /// Connections whose every response came whole.
    whole = "whole",
    /// Connections that failed because their first server crashed, or was down.
    first_crashed = "failed: first server crashed",
    /// Connections that failed because their owner crashed.
    owner_crashed = "failed: owner crashed",
    /// Connections that failed because their first server or their owner had left and then stopped.
    left = "failed: server left",
    /// Connections that failed because the first server had not heard their owner for so long that it was taken for dead.
    given_up = "failed: owner not heard",
    /// Connections that failed because two servers did not hear each other on LAN B while one had handed it to the other.
    parted = "failed: servers were parted",
    /// Connections whose client took a RST for its own that the former one of its port had got.
    late_reset = "failed: late RST of the former",
    /// New connections that their first server had no place for.
    rejected = "failed: first server full",
    /// Bindings to an application of the server that the client connected to.
    local = "bound locally",
    /// Hand-overs: of new connections, and of bound ones.
    migrated = "migrated",
    /// Bound connections that moved on to another server.
    moved = "moved again",
    /// Those of them that came home to the server that the client connected to.
    came_home = "came home",
    /// Connections opened by a SYN cookie; those of servers that have crashed since are not counted.
    cookies = "opened by a cookie",
    /// Times that a server began to drain.
    drains = "drains",
    /// Commands to move that were accepted.
    commands = "commands to move",
    /// Connections from a port that the client had used before.
    reused = "ports used again",
    /// Connections from a port that their client has used with other servers too.
    shared = "ports of several servers",
    /// Datagrams that were to be answered.
    questions = "datagrams asked",
    /// Those that were.
    answered = "datagrams answered",
    /// Times that a UDP flow was answered by another server than before.
    turns = "datagram flows begun anew",
    /// Servers that said that they leave.
    leaves = "leaves",
    /// Crashes.
    kills = "crashes",
    /// Servers started again.
    restarts = "restarts",
    /// Times that two machines were kept apart.
    partitions = "partitions",
    /// Frames sent on the three LANs.
    frames = "frames",
    /// Copies of frames that were lost, or kept back by a partition.
    lost = "frames lost",
    /// Frames that came twice.
    duplicated = "frames duplicated",
    /// Copies that were overtaken.
    reordered = "frames reordered",
    /// Copies with an inverted bit.
    corrupted = "frames corrupted",
}

impl Counts {
    /// Connections that failed, for whatever reason.
    pub fn failed(&self) -> u64 {
        self.first_crashed
            + self.owner_crashed
            + self.left
            + self.given_up
            + self.parted
            + self.late_reset
            + self.rejected
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.iter() {
            writeln!(f, "{count:>12}  {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_have_names() {
        let mut sum = Counts {
            farms: 1,
            lost: 5,
            ..Counts::default()
        };
        sum.add(&Counts {
            farms: 2,
            ..Counts::default()
        });
        assert_eq!((sum.farms, sum.lost, sum.whole), (3, 5, 0));
        assert!(sum.iter().any(|row| row == ("frames lost", 5)));
        assert!(sum.to_string().starts_with("           3  farms\n"));
    }
}
