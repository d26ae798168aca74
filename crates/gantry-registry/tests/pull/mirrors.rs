//! Mirrors of Docker Hub, and proxies.

use crate::server::{Answer, Image, Server, platform, registry};
use futures_util::TryStreamExt;
use gantry_oci::Reference;
use gantry_registry::{Credentials, Proxies, Registry, RegistryOptions, insecure, mirror};

fn with_mirrors(mirrors: &[String]) -> Registry {
    Registry::new(RegistryOptions {
        mirrors: mirrors.iter().map(|text| mirror(text).unwrap()).collect(),
        ..(*registry().options()).clone()
    })
}

#[tokio::test]
async fn the_first_mirror_that_has_it_serves() {
    let image = Image::new();
    let layer = image.layer.clone();
    let down = "http://127.0.0.1:1".to_owned();
    let empty = Server::start(|head| match head.path.as_str() {
        "/v2/" => Answer::ok(b"{}"),
        _ => Answer::missing(),
    })
    .await;
    let good = Server::start(move |head| {
        assert_eq!(
            head.header("authorization"),
            "",
            "nothing of Docker Hub's is shown"
        );
        let mut head = head.clone();
        head.path = head.path.replacen("/hub/", "/", 1);
        image.answer(&head)
    })
    .await;
    let mirrors = [
        down,
        format!("http://{}", empty.address),
        format!("http://{}/hub", good.address),
    ];
    let registry = with_mirrors(&mirrors);
    let reference = Reference::parse("team/box:latest").unwrap();
    let hub = Credentials {
        username: "me".into(),
        password: "secret".into(),
        ..Credentials::default()
    };
    let remote = registry
        .resolve(&reference, &platform(), Some(&hub))
        .await
        .unwrap();
    assert_eq!(good.asked("/hub/v2/team/box/manifests/latest").len(), 1);
    assert_eq!(empty.asked("/v2/team/box/manifests/latest").len(), 1);
    let stream = registry
        .blob(&reference, &remote.layers[0], 0, Some(&hub), None)
        .await;
    let pieces: Vec<_> = stream.unwrap().try_collect().await.unwrap();
    assert_eq!(pieces.concat(), layer);

    // Only Docker Hub has mirrors.
    let other = empty.reference("team/box:latest");
    registry
        .resolve(&other, &platform(), None)
        .await
        .unwrap_err();
    assert_eq!(good.asked("manifests").len(), 1);
}

#[tokio::test]
async fn settings_count_from_their_change_on() {
    let image = Image::new();
    let server = Server::start(move |head| image.answer(head)).await;
    let registry = with_mirrors(&["http://127.0.0.1:1".to_owned()]);
    registry.configure(RegistryOptions {
        mirrors: vec![format!("http://{}/", server.address)],
        ..(*registry.options()).clone()
    });
    let reference = Reference::parse("team/box:latest").unwrap();
    registry
        .resolve(&reference, &platform(), None)
        .await
        .unwrap();
}

#[tokio::test]
async fn through_a_proxy() {
    let image = Image::new();
    // It is asked for whole addresses.
    let proxy = Server::start(move |head| {
        let mut head = head.clone();
        let path = head.path.strip_prefix("http://registry.invalid:5000");
        head.path = path.unwrap_or("/nothing").to_owned();
        image.answer(&head)
    })
    .await;
    let options = |none: &str| RegistryOptions {
        insecure: vec![insecure("registry.invalid:5000").unwrap()],
        proxies: Proxies {
            http: format!("http://me:secret@{}", proxy.address),
            https: String::new(),
            none: none.to_owned(),
        },
        ..(*registry().options()).clone()
    };
    let reference = Reference::parse("registry.invalid:5000/team/box:latest").unwrap();
    let through = Registry::new(options(""));
    through
        .resolve(&reference, &platform(), None)
        .await
        .unwrap();
    let asked = proxy.asked("/v2/team/box/manifests/latest");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("proxy-authorization"), "Basic bWU6c2VjcmV0");

    let around = Registry::new(options(".invalid"));
    around
        .resolve(&reference, &platform(), None)
        .await
        .unwrap_err();
    assert_eq!(proxy.asked("manifests").len(), 1);
}
