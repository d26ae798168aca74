//! The links below macvlan and ipvlan.
use super::Plane;
use crate::error::NetworkError;
use crate::link::{self, Link};
use crate::network::Parent;

/// The highest number of a VLAN (IEEE 802.1Q).
const LAST_VLAN: u16 = 4094;

impl Plane {
    /// Finds the link below, or makes it where it is ours to make: a VLAN `<link>.<number>`, else one of no hardware.
    pub(super) fn raise_parent(&self, parent: &Parent) -> Result<Link, NetworkError> {
        let name = &parent.link;
        if let Some(link) = self.find(name)? {
            return Ok(link);
        }
        if !parent.ours {
            let text =
                format!("invalid subinterface vlan name {name}, example formatting is eth0.10");
            return Err(NetworkError::Invalid(text));
        }
        let make = match vlan(name)? {
            Some((below, id)) => {
                let below = self.find(below)?.ok_or_else(|| {
                    NetworkError::Invalid(format!("the link {below} below {name} does not exist"))
                })?;
                link::add_vlan(name, below.index, id)
            }
            None => link::add_dummy(name),
        };
        match self
            .netlink
            .execute(&[make, link::set_alias(name, &self.mark)])
        {
            Err(refusal) if refusal.is(libc::EOPNOTSUPP) => {
                let lacks = match vlan(name)? {
                    Some(_) => "VLANs (module 8021q)",
                    None => "links of no hardware (module dummy): name a parent",
                };
                let text = format!("cannot make {name}: this kernel has no {lacks}");
                return Err(NetworkError::Invalid(text));
            }
            done => done.map_err(NetworkError::kernel(format!("making link {name}")))?,
        }
        let made = self.find(name)?.ok_or_else(|| {
            NetworkError::Invalid(format!("link {name} vanished while it was set up"))
        })?;
        self.bring_up(&made)?;
        Ok(made)
    }

    /// Removes a link that was made here.
    pub(super) fn lower_parent(&self, parent: &Parent, link: &Link) -> Result<(), NetworkError> {
        let still = self.find(&link.name)?;
        let made_here = |l: &Link| parent.ours && l.index == link.index && l.alias == self.mark;
        if !still.as_ref().is_some_and(made_here) {
            return Ok(());
        }
        self.delete(link)
    }
}

/// The link and the number of `eth0.50`; None: no VLAN's name.
fn vlan(name: &str) -> Result<Option<(&str, u16)>, NetworkError> {
    let Some((below, id)) = name.rsplit_once('.') else {
        return Ok(None);
    };
    match id.parse() {
        Ok(id) if (1..=LAST_VLAN).contains(&id) && !below.is_empty() => Ok(Some((below, id))),
        _ => Err(NetworkError::Invalid(format!(
            "vlan id must be between 1-4094, received: {id}"
        ))),
    }
}
