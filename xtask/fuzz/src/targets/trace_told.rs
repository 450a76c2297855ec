//! The trace: any page is a stop or none, and any log is records or noise.

use trace::{LAST_BYTES, Last, RECORDS, Telling, Told};

/// Reads `data` as the page of a stop and as a console log.
pub fn run(data: &[u8]) {
    let mut page = [0; LAST_BYTES];
    let len = data.len().min(LAST_BYTES);
    page[..len].copy_from_slice(&data[..len]);
    if let Some(stop) = Last::read(&page) {
        let ring = stop.ring();
        assert!(stop.text().len() < LAST_BYTES && ring.last(RECORDS).count() <= RECORDS);
        told(&Telling { ring: &ring, core: 0, hertz: 1, most: RECORDS }.to_string());
    }
    told(&String::from_utf8_lossy(data));
}

fn told(log: &str) {
    for told in log.lines().filter_map(Told::parse) {
        assert_ne!(told.hertz, 0);
        told.records().for_each(|record| assert!(!record.to_string().is_empty()));
        told.counts().for_each(|(name, _)| assert!(!name.contains(' ')));
    }
}
