//! Archives of images.

use crate::tars::{nothing_left, store, with_sums};

/// Whatever is loaded can be told of, saved and removed; whatever is not leaves nothing.
pub(crate) fn load(data: &[u8]) {
    let archive = with_sums(data);
    let store = store();
    let mut reader = &archive[..];
    let _ = gantry_store::archive::load(store, &mut reader, &|_, _| {});
    for image in store.images.all().expect("images can be listed") {
        let images = [(image.id.clone(), image.tags.clone())];
        gantry_store::archive::save(store, &images, &mut std::io::sink())
            .expect("what was loaded can be saved");
        store
            .images
            .delete(&image.id)
            .expect("an image can be removed");
    }
    store.images.collect_layers().expect("layers are collected");
    nothing_left();
}
