//! Windows and their scales (RFC 9293 §3.1, RFC 7323 §2).

/// The window field of a segment, as it is on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window(u16);

impl Window {
    /// A field with this value.
    pub const fn new(field: u16) -> Window {
        Window(field)
    }

    /// The field's value.
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// The window in bytes.
    pub const fn bytes(self, scale: WindowScale) -> u32 {
        (self.0 as u32) << scale.0
    }
}

/// A window's shift, at most 14.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowScale(u8);

impl WindowScale {
    /// Without scaling: a field counts bytes.
    pub const NONE: WindowScale = WindowScale(0);
    /// RFC 7323 §2.3.
    pub const MAX: u8 = 14;

    /// The scale of an option; one above 14 counts as 14 (RFC 7323 §2.3).
    pub const fn new(shift: u8) -> WindowScale {
        WindowScale(if shift < WindowScale::MAX {
            shift
        } else {
            WindowScale::MAX
        })
    }

    /// The shift.
    pub const fn raw(self) -> u8 {
        self.0
    }

    /// Bytes that one unit of a field stands for.
    pub const fn unit(self) -> u32 {
        1 << self.0
    }
}
