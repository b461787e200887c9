//! `manifest` of `tests::fuzz`, for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let target = tests::fuzz::target("manifest").expect("it is one of them");
    (target.run)(bytes);
});
