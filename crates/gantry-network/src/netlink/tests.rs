use super::{Message, Netlink, attributes, string, u32_of};

#[test]
fn nested_attributes_are_read_back() {
    let message = Message::new(16, 0)
        .fixed(&[1, 2, 3])
        .string(3, "eth0")
        .nest(18, |m| m.number(1, 7).string(2, "veth"));
    let mut bytes = Vec::new();
    message.write_to(&mut bytes, 9);
    assert_eq!(u32_of(&bytes), bytes.len() as u32);
    assert_eq!(u32_of(&bytes[8..]), 9);
    let list: Vec<_> = attributes(&bytes[20..]).collect();
    assert_eq!(list[0], (3, b"eth0\0".as_slice()));
    let inner: Vec<_> = attributes(list[1].1).collect();
    assert_eq!(u32_of(inner[0].1), 7);
    assert_eq!(string(inner[1].1), "veth");
    assert_eq!((list.len(), inner.len()), (2, 2));
}

#[test]
fn cut_attributes_end_the_walk() {
    assert_eq!(attributes(&[8, 0, 1, 0, 5, 0, 0]).count(), 0);
    assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
    assert_eq!(attributes(&[4, 0, 1]).count(), 0);
    assert_eq!(attributes(&[4, 0, 1, 0]).count(), 1);
}

#[test]
fn a_refusal_among_answers_carries_its_errno() {
    let netlink = Netlink::route().expect("netlink socket");
    let get = Message::new(libc::RTM_GETLINK, 0)
        .fixed(&[0; 16])
        .string(libc::IFLA_IFNAME, "lo");
    // Message type 4095 belongs to nobody.
    let refusal = netlink
        .execute(&[get, Message::new(4095, 0).fixed(&[0; 16])])
        .expect_err("an unknown message type must be refused");
    assert!(refusal.is(libc::EOPNOTSUPP), "{refusal:?}");
}
