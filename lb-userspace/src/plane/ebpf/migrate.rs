//! Entries of maps that were made anew in another size: copied while the old programs still use the old maps, and once
//! more after the new ones have taken over, so that nothing that began in between is lost.

use std::fs;

use aya::maps::{HashMap, Map, MapData, MapError};
use lb_common::Plain;
use lb_common::key::{FlowKey, RevKey};
use lb_common::socket::Turned;
use lb_common::table::{Flow, Hint, Rev};
use lb_common::{V4, V6};

use super::maps::{Maps, Table};
use super::pins::Pins;
use super::raw::Raw;
use crate::plane::EbpfError;

/// Copies what the old maps have and the new ones have not. What does not fit is left.
pub fn copy(pins: &Pins, names: &[&'static str], maps: &mut Maps) -> Result<(), EbpfError> {
    for &name in names {
        match name {
            "HALF4" => table::<FlowKey<V4>, Flow>(pins, name, &mut maps.v4.half),
            "HALF6" => table::<FlowKey<V6>, Flow>(pins, name, &mut maps.v6.half),
            "HALFREV4" => table::<RevKey<V4>, Rev<V4>>(pins, name, &mut maps.v4.half_rev),
            "HALFREV6" => table::<RevKey<V6>, Rev<V6>>(pins, name, &mut maps.v6.half_rev),
            "FLOW4" => table::<FlowKey<V4>, Flow>(pins, name, &mut maps.v4.flow),
            "FLOW6" => table::<FlowKey<V6>, Flow>(pins, name, &mut maps.v6.flow),
            "REV4" => table::<RevKey<V4>, Rev<V4>>(pins, name, &mut maps.v4.rev),
            "REV6" => table::<RevKey<V6>, Rev<V6>>(pins, name, &mut maps.v6.rev),
            "HINT4" => table::<FlowKey<V4>, Hint>(pins, name, &mut maps.v4.hint),
            "HINT6" => table::<FlowKey<V6>, Hint>(pins, name, &mut maps.v6.hint),
            "SOCKET" => table::<u64, Turned>(pins, name, &mut maps.socket),
            _ => Ok(()),
        }?;
    }
    Ok(())
}

/// The old maps are needed no more.
pub fn finish(pins: &Pins, names: &[&'static str]) {
    for name in names {
        if let Err(error) = fs::remove_file(pins.old(name)) {
            tracing::warn!(map = name, %error, "an old map stays pinned");
        }
    }
}

fn table<K: Plain, V: Plain>(
    pins: &Pins,
    name: &'static str,
    new: &mut Table<K, V>,
) -> Result<(), EbpfError> {
    let failed = |error: MapError| EbpfError::Map {
        action: "copy",
        map: name,
        reason: super::maps::with_causes(&error),
    };
    let data = MapData::from_pin(pins.old(name)).map_err(failed)?;
    let map = Map::from_map_data(data).map_err(failed)?;
    // Of another layout: nothing to copy.
    let Ok(old) = HashMap::<_, Raw<K>, Raw<V>>::try_from(map) else {
        return Ok(());
    };
    let mut copied = 0u64;
    for entry in old.iter() {
        // An entry that went away under the walk.
        let Ok((Raw(key), Raw(value))) = entry else {
            continue;
        };
        if new.add(key, value)? {
            copied += 1;
        }
    }
    tracing::info!(map = name, copied, "entries moved to the new map");
    Ok(())
}
