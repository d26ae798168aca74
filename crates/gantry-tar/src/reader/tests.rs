use super::*;

/// A header; the check sum is right.
fn header(name: &[u8], flag: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    sum(&mut block);
    block
}

fn sum(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(BLOCK), 0);
    data
}

fn records(list: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in list {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        data.extend(format!("{length} {key}=").as_bytes());
        data.extend(*value);
        data.push(b'\n');
    }
    [
        &header(b"PaxHeaders/x", b'x', data.len() as u64)[..],
        &padded(&data),
    ]
    .concat()
}

fn read(bytes: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = TarReader::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.read_to_end(&mut data)?;
        entries.push((entry, data));
    }
    Ok(entries)
}

#[test]
fn records_may_hold_any_bytes() {
    let long = [b'n'; 300];
    let archive = [
        records(&[
            ("path", &long),
            ("SCHILY.xattr.security.capability", b"\x01\n\x00=\n\xff"),
            ("mtime", b"-1.25"),
            ("uid", b"4294967294"),
        ]),
        header(b"short", b'0', 3).to_vec(),
        padded(b"abc"),
    ]
    .concat();
    let (entry, data) = read(&archive).unwrap().remove(0);
    assert_eq!((&entry.path[..], &data[..]), (&long[..], &b"abc"[..]));
    assert_eq!(
        entry.xattrs,
        [(
            b"security.capability".to_vec(),
            b"\x01\n\x00=\n\xff".to_vec()
        )]
    );
    assert_eq!((entry.time, entry.uid), ((-2, 750_000_000), 4_294_967_294));
}

#[test]
fn users_that_do_not_exist_are_refused_not_cut_to_root() {
    for uid in ["4294967296", "4294967295", "-1", "x"] {
        let archive = [
            records(&[("uid", uid.as_bytes())]),
            header(b"f", b'0', 0).to_vec(),
        ]
        .concat();
        assert!(read(&archive).is_err(), "{uid}");
    }
    let mut block = header(b"f", b'0', 0);
    block[108..116].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 0]);
    sum(&mut block);
    assert!(read(&block).is_err());
}

#[test]
fn numbers() {
    assert_eq!(number(b"0000755\0").unwrap(), 0o755);
    assert_eq!(number(b"   755 \0").unwrap(), 0o755);
    assert_eq!(number(&[0; 8]).unwrap(), 0);
    assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]).unwrap(), 256);
    assert_eq!(number(&[0xff; 12]).unwrap(), -1);
    assert!(
        number(b"9").is_err()
            && number(&[
                0x80 | 0x3f,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff
            ])
            .is_err()
    );
}

#[test]
fn every_format_of_sparse_files() {
    let data = padded(b"abcdef");
    let map: &[(u64, u64)] = &[(512, 3), (2048, 3)];
    let mut old = header(b"s", b'S', 6);
    old[257..265].copy_from_slice(b"ustar  \0");
    for (at, text) in [
        "00000001000\0",
        "00000000003\0",
        "00000004000\0",
        "00000000003\0",
    ]
    .iter()
    .enumerate()
    {
        old[386 + at * 12..398 + at * 12].copy_from_slice(text.as_bytes());
    }
    old[483..495].copy_from_slice(b"00000010000\0");
    sum(&mut old);
    let one_map = padded(b"2\n512\n3\n2048\n3\n");
    let formats = [
        old.to_vec(),
        [
            records(&[
                ("GNU.sparse.size", b"4096"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"512"),
                ("GNU.sparse.numbytes", b"3"),
                ("GNU.sparse.offset", b"2048"),
                ("GNU.sparse.numbytes", b"3"),
            ]),
            header(b"s", b'0', 6).to_vec(),
        ]
        .concat(),
        [
            records(&[
                ("GNU.sparse.size", b"4096"),
                ("GNU.sparse.name", b"s"),
                ("GNU.sparse.map", b"512,3,2048,3"),
            ]),
            header(b"GNUSparseFile.0/s", b'0', 6).to_vec(),
        ]
        .concat(),
        [
            records(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"s"),
                ("GNU.sparse.realsize", b"4096"),
            ]),
            header(b"GNUSparseFile.0/s", b'0', 512 + 6).to_vec(),
            one_map,
        ]
        .concat(),
    ];
    for head in formats {
        let (entry, read) = read(&[head, data.clone()].concat()).unwrap().remove(0);
        assert_eq!(
            (&entry.path[..], entry.size, &read[..]),
            (&b"s"[..], 4096, &b"abcdef"[..])
        );
        assert_eq!(entry.segments.as_deref(), Some(map));
    }
    for bad in [
        "512,3,100,3",
        "512,3,4095,3",
        "512,3",
        "512,3,2048,4",
        "512,18446744073709551615",
        "x,y",
        "1",
    ] {
        let head = records(&[
            ("GNU.sparse.size", b"4096"),
            ("GNU.sparse.map", bad.as_bytes()),
        ]);
        let archive = [head, header(b"s", b'0', 6).to_vec(), data.clone()].concat();
        assert!(read(&archive).is_err(), "{bad}");
    }
}

#[test]
fn what_is_broken_is_an_error_and_never_a_panic() {
    let long = "a/".repeat(80);
    let whole = [
        records(&[("path", long.as_bytes())]),
        header(b"f", b'0', 1000).to_vec(),
        padded(&[7; 1000]),
        vec![0; 1024],
    ]
    .concat();
    let entries = read(&whole).unwrap();
    assert_eq!((entries.len(), entries[0].0.kind), (1, Kind::Dir));
    let end = whole.len() - 1024;
    for cut in 1..end {
        // Between entries an archive may end.
        if let Ok(entries) = read(&whole[..cut]) {
            assert!(cut >= 1536 + 1000 && entries.len() == 1, "{cut}");
        }
    }
    // One byte changed, everywhere: an error or another archive.
    for at in 0..end {
        let mut changed = whole.clone();
        changed[at] ^= 0x55;
        let _ = read(&changed);
    }
    for size in [&b"18446744073709551615"[..], b"9223372036854775807", b"-1"] {
        let archive = [records(&[("size", size)]), header(b"f", b'0', 0).to_vec()].concat();
        assert!(read(&archive).is_err());
    }
    for record in [
        &b"5 a=b\n"[..],
        b"999999999999999999999 a=b\n",
        b"a",
        b"6 ab\n\n",
        b"3 \n",
        b"0 a=b\n",
    ] {
        assert!(pax::parse(record).is_err(), "{record:?}");
    }
}
