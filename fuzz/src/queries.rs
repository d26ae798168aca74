//! Queries to the name server in containers.

use gantry_network::dns::{Directory, Outside, answered};
use std::net::IpAddr;

/// Has names of all kinds.
struct Book;

impl Directory for Book {
    fn addresses(&self, _: &str, name: &str, v6: bool) -> Option<Vec<IpAddr>> {
        let v4 = |last: u8| IpAddr::from([10, 0, 0, last]);
        match (name.to_ascii_lowercase().as_str(), v6) {
            ("web", false) => Some(vec![v4(1)]),
            ("web", true) => Some(vec![[0xfd00, 0, 0, 0, 0, 0, 0, 1].into()]),
            ("many.net", false) => Some((0..=255).map(v4).collect()),
            ("many.net", true) => Some(Vec::new()),
            _ => None,
        }
    }

    fn name_of(&self, _: &str, address: IpAddr) -> Option<String> {
        (address == IpAddr::from([10, 0, 0, 1])).then(|| "web.net".to_owned())
    }

    fn outside(&self, _: &str) -> Outside {
        Outside {
            upstreams: Vec::new(),
            keeps_short_names: true,
        }
    }
}

/// An answer is one to that query, and of a size that the client takes.
pub(crate) fn answer(data: &[u8]) {
    for by_tcp in [false, true] {
        let Some(answer) = answered(&Book, "container", data, by_tcp) else {
            continue;
        };
        assert_eq!(answer[..2], data[..2]);
        assert_eq!(answer[2] & 0x80, 0x80);
        assert!(answer.len() <= usize::from(u16::MAX));
        // Nobody answers an answer.
        assert!(answered(&Book, "container", &answer, by_tcp).is_none());
    }
}
