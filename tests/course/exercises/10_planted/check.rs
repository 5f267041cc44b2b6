pub(crate) fn check() {
    let failed: Vec<String> = (0..500)
        .filter_map(|seed| Some(format!("seed {seed}: {}", run(seed).err()?)))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of 500 seeds fail; {}",
        failed.len(),
        failed[0]
    );
}
