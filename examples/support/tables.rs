//! More connections than one table of descriptors holds: how many shards that takes, each with a table of its own. See
//! `Builder::private_fd_tables`.

use std::error::Error;

use esockets::sys;

/// More threads than this are no way to hold connections.
const SHARDS_MAX: u64 = 128;
/// Descriptors of a table that are no connections: what wakes each of the shards is in all of them.
const RESERVE: u64 = SHARDS_MAX + 16;

/// The shards for so many connections, of which the kernel deals each to one by chance: for one shard six standard deviations
/// more than the mean still fit. Before that, this process has what it may have without asking anybody.
pub(crate) fn shards_for(connections: u64) -> Result<usize, Box<dyn Error>> {
    sys::set_descriptor_limit(sys::descriptor_limit()?.hard)?;
    let limit = sys::descriptor_limit()?.soft;
    let room = limit.saturating_sub(RESERVE) as f64;
    let each = (room - 6.0 * room.sqrt()).max(1.0) as u64;
    let shards = connections.max(1).div_ceil(each);
    if shards > SHARDS_MAX {
        let most = SHARDS_MAX * each;
        let why = format!("{connections} connections, but `ulimit -n` is {limit}: that is for {most}; raise it");
        return Err(why.into());
    }
    Ok(shards as usize)
}
