//! The smallest laboratory: two namespaces and a veth pair between them.

use ipos_backend::memory::Side;

use crate::{End, LabError, Namespace, connect};

/// Two namespaces with an interface each, [`Pair::INTERFACE`], joined to each other, up and silent.
#[derive(Debug)]
pub struct Pair {
    near: Namespace,
    far: Namespace,
}

impl Pair {
    /// The interfaces' name.
    pub const INTERFACE: &'static str = "b0";

    /// Builds it, with Ethernet's MTU.
    ///
    /// # Errors
    /// [`LabError`]: no right to, or the kernel refuses.
    pub fn new() -> Result<Self, LabError> {
        let pair = Self {
            near: Namespace::new()?,
            far: Namespace::new()?,
        };
        let end = |side| End {
            namespace: pair.at(side),
            name: Self::INTERFACE,
            hardware_address: Some(Self::hardware_address(side)),
        };
        connect(end(Side::Near), end(Side::Far), 1500)?;
        pair.near.set_up(Self::INTERFACE)?;
        pair.set_up(Side::Far, true)?;
        Ok(pair)
    }

    /// The namespace of a side.
    #[must_use]
    pub fn at(&self, side: Side) -> &Namespace {
        match side {
            Side::Near => &self.near,
            Side::Far => &self.far,
        }
    }

    /// The interface's hardware address on a side.
    #[must_use]
    pub const fn hardware_address(side: Side) -> [u8; 6] {
        match side {
            Side::Near => [2, 0, 0, 0, 0, 1],
            Side::Far => [2, 0, 0, 0, 0, 2],
        }
    }

    /// Takes the interface of a side down, or up; then it waits until frames pass between both.
    ///
    /// # Errors
    /// [`LabError`]: the kernel refuses, or the other side is down.
    pub fn set_up(&self, side: Side, up: bool) -> Result<(), LabError> {
        let place = self.at(side);
        if !up {
            return place.set_down(Self::INTERFACE);
        }
        place.set_up(Self::INTERFACE)?;
        self.near.wait_ready(Self::INTERFACE)?;
        self.far.wait_ready(Self::INTERFACE)
    }

    /// Sets the MTU of both interfaces, in bytes.
    ///
    /// # Errors
    /// [`LabError::System`]: an MTU that they cannot have.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), LabError> {
        self.near.set_mtu(Self::INTERFACE, mtu)?;
        self.far.set_mtu(Self::INTERFACE, mtu)
    }
}
