//! How many connections each address has: one alone must not take every place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// Addresses with connections, and for a while those that had some.
#[derive(Default)]
pub struct Peers(HashMap<IpAddr, Weak<()>>);

impl Peers {
    /// A place of this address, which has at most `most`; it is given back when it is dropped.
    pub fn enter(&mut self, address: IpAddr, most: usize) -> Option<Arc<()>> {
        if self.0.len() == self.0.capacity() {
            // Before it grows: the map stays as large as addresses that are there, or twice that.
            self.0.retain(|_, places| places.strong_count() > 0);
        }
        let places = self.0.entry(address.to_canonical()).or_default();
        if places.strong_count() >= most {
            return None;
        }
        let place = places.upgrade().unwrap_or_default();
        *places = Arc::downgrade(&place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::Peers;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    #[test]
    fn one_address_has_its_share_and_gets_it_back_and_the_others_have_theirs() {
        let mut peers = Peers::default();
        let mut held = [peers.enter(address(1), 2), peers.enter(address(1), 2)];
        assert!(held.iter().all(Option::is_some));
        let mapped = Ipv4Addr::from(1).to_ipv6_mapped().into();
        assert!(peers.enter(address(1), 2).is_none() && peers.enter(mapped, 2).is_none());
        assert!(peers.enter(address(2), 2).is_some());
        held[0] = None;
        held[0] = peers.enter(address(1), 2);
        assert!(held[0].is_some() && peers.enter(address(1), 2).is_none());
    }

    #[test]
    fn addresses_that_went_take_no_memory() {
        let mut peers = Peers::default();
        let held = peers.enter(address(0), 1);
        for number in 1..100_000 {
            peers.enter(address(number), 1);
        }
        assert!(peers.0.capacity() < 1000, "{}", peers.0.capacity());
        assert!(held.is_some() && peers.enter(address(0), 1).is_none());
    }
}
