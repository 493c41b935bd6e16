//! The messages between service and zygote: what is understood is written back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_shim::zygote::wire::{self, Report, Request};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = wire::parse::<Request>(bytes) {
        let text = serde_json::to_vec(&request).expect("a request is JSON");
        let again: Request = wire::parse(&text).expect("what was written can be read");
        assert_eq!(request.op(), again.op());
        assert_eq!(text, serde_json::to_vec(&again).expect("a request is JSON"));
    }
    if let Ok(report) = wire::parse::<Report>(bytes) {
        let text = serde_json::to_vec(&report).expect("a report is JSON");
        let again: Report = wire::parse(&text).expect("what was written can be read");
        assert_eq!(text, serde_json::to_vec(&again).expect("a report is JSON"));
        if let Report::Failed { fault, .. } = report {
            assert!(fault.shortened().message.len() <= 4100);
        }
    }
});
