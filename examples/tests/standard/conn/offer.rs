//! TCP options that are sent.

/// RFC 9293 §3.7.1.
pub const DEFAULT_MSS: u16 = 536;

/// The options of a SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub mss: Option<u16>,
    pub scale: Option<u8>,
    pub sack: bool,
    pub timestamps: bool,
}

impl Offer {
    pub const NONE: Offer = Offer {
        mss: None,
        scale: None,
        sack: false,
        timestamps: false,
    };
    pub const MSS: Offer = Offer {
        mss: Some(1460),
        ..Offer::NONE
    };
    pub const SACK: Offer = Offer {
        sack: true,
        ..Offer::MSS
    };
    pub const TIMESTAMPS: Offer = Offer {
        timestamps: true,
        ..Offer::MSS
    };
    pub const ALL: Offer = Offer {
        scale: Some(7),
        sack: true,
        timestamps: true,
        ..Offer::MSS
    };

    /// As they go into a SYN.
    pub fn to_wire(self, tsval: u32) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(mss) = self.mss {
            options.extend([2, 4]);
            options.extend(mss.to_be_bytes());
        }
        if let Some(scale) = self.scale {
            options.extend([1, 3, 3, scale]);
        }
        if self.sack {
            options.extend([1, 1, 4, 2]);
        }
        if self.timestamps {
            options.extend([1, 1]);
            options.extend(timestamp(tsval, 0));
        }
        options
    }
}

/// RFC 7323 §3.2.
pub fn timestamp(value: u32, echo: u32) -> Vec<u8> {
    [&[8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}

/// RFC 2018 §3.
pub fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
    let mut option = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
    for (left, right) in blocks {
        option.extend(left.to_be_bytes());
        option.extend(right.to_be_bytes());
    }
    option
}
