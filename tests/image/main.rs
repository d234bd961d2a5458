//! Builds the reference image.

use anweddol::guest::image::{BuildOptions, build};

#[test]
#[ignore = "needs apt and qemu: builds the image and boots it"]
fn tmp_build() {
    let o = BuildOptions { out_dir: "/tmp/g/out".into(), cache_dir: "/tmp/g/cache".into() };
    let t = std::time::Instant::now();
    let b = build(&o, &mut |l| eprintln!("{:.2?} {l}", t.elapsed()));
    eprintln!("{:.2?} {b:#?}", t.elapsed());
    b.unwrap();
}
