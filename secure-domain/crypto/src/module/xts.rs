//! An XTS key in service: it asks the module before every call.
use super::Module;
use crate::Block;
use crate::error::Error;
use crate::suite::Algorithm;
use crate::xts::Xts;

/// An XTS key in service, in the open profile.
pub struct XtsService {
    module: &'static Module,
    xts: Xts,
}

impl XtsService {
    pub(super) fn new(module: &'static Module, algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        Ok(Self { module, xts: Xts::new(algorithm, key)? })
    }

    /// Enciphers one data unit in place; `tweak` is its number, little-endian.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::InputLength`] unless `data` has 16 to 2^24 bytes. It is untouched then.
    pub fn encrypt(&self, tweak: Block, data: &mut [u8]) -> Result<(), Error> {
        self.module.permit()?;
        self.xts.encrypt(tweak, data)
    }

    /// Deciphers one data unit in place.
    ///
    /// # Errors
    /// As [`XtsService::encrypt`].
    pub fn decrypt(&self, tweak: Block, data: &mut [u8]) -> Result<(), Error> {
        self.module.permit()?;
        self.xts.decrypt(tweak, data)
    }
}

impl core::fmt::Debug for XtsService {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("XtsService { .. }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::module::Profile;
    use crate::state::State;

    #[test]
    fn a_unit_is_served_while_the_module_serves() {
        let module = host::fresh(Profile::Open);
        assert_eq!(module.xts(Algorithm::Aria128, &[0; 31]).unwrap_err(), Error::KeyLength);
        assert_eq!(module.xts(Algorithm::Aria128, &[0; 32]).unwrap_err(), Error::EqualKeys);
        let service = module.xts(Algorithm::Aria128, &core::array::from_fn::<u8, 32, _>(|i| i as u8)).unwrap();
        let mut unit = [7; 48];
        service.encrypt([1; 16], &mut unit).unwrap();
        let sealed = unit;
        service.decrypt([1; 16], &mut unit).unwrap();
        assert_eq!(unit, [7; 48]);
        unit = sealed;
        module.zeroise().unwrap();
        let refused = Err(Error::State(State::Zeroised));
        assert_eq!((service.decrypt([1; 16], &mut unit), service.encrypt([1; 16], &mut unit)), (refused, refused));
        assert_eq!(unit, sealed);
    }
}
