//! Devices and their names.

use burn::tensor::Device;

/// Every device name that Foehn supports, compiled in or not.
const KNOWN: [&str; 4] = ["flex", "ndarray", "wgpu", "cuda"];

/// A device is not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// There is no device with this name.
    #[error("there is no device `{name}`; this build has: {}", available.join(", "))]
    Unknown {
        /// The requested name.
        name: String,
        /// The devices of this build.
        available: Vec<&'static str>,
    },
    /// The device is supported, but it was not compiled into this build.
    #[error("device `{name}` is not in this build, which has: {}; build with --features {name}", available.join(", "))]
    NotCompiled {
        /// The requested name.
        name: String,
        /// The devices of this build.
        available: Vec<&'static str>,
    },
    /// The device is compiled in, but this machine does not have one.
    #[error("this machine has no device for `{name}` (no driver, or no hardware); this build has: {}", available.join(", "))]
    NotFound {
        /// The requested name.
        name: String,
        /// The devices of this build.
        available: Vec<&'static str>,
    },
}

/// The names of the devices that this build can use, in order of preference.
pub fn available() -> Vec<&'static str> {
    let compiled = [cfg!(feature = "flex"), cfg!(feature = "ndarray"), cfg!(feature = "wgpu"), cfg!(feature = "cuda")];
    KNOWN.into_iter().zip(compiled).filter_map(|(name, compiled)| compiled.then_some(name)).collect()
}

/// The device with a given name: `flex`, `ndarray`, `wgpu` or `cuda`.
///
/// # Errors
/// [`DeviceError`], which lists the available devices.
pub fn device(name: &str) -> Result<Device, DeviceError> {
    let available = available();
    if !KNOWN.contains(&name) {
        return Err(DeviceError::Unknown { name: name.to_owned(), available });
    }
    let device = match name {
        #[cfg(feature = "flex")]
        "flex" => Some(Device::flex()),
        #[cfg(feature = "ndarray")]
        "ndarray" => Some(ndarray()),
        #[cfg(feature = "wgpu")]
        "wgpu" => first(burn::tensor::DeviceType::Wgpu, || Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "cuda")]
        "cuda" => first(burn::tensor::DeviceType::Cuda, || Device::cuda(0)),
        _ => return Err(DeviceError::NotCompiled { name: name.to_owned(), available }),
    };
    device.ok_or_else(|| DeviceError::NotFound { name: name.to_owned(), available })
}

/// Checks that the machine has a device that needs a driver: without this check, the first use would panic.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn first(kind: burn::tensor::DeviceType, device: impl FnOnce() -> Device) -> Option<Device> {
    (!Device::enumerate(kind).into_vec().is_empty()).then(device)
}

#[cfg(feature = "ndarray")]
#[allow(deprecated)] // Burn 0.22 still ships the backend; Foehn keeps it as an option while it does.
fn ndarray() -> Device {
    Device::ndarray()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_there_is() {
        assert!(matches!(device("gpu"), Err(DeviceError::Unknown { .. })));
        for name in KNOWN.into_iter().filter(|name| !available().contains(name)) {
            assert!(matches!(device(name), Err(DeviceError::NotCompiled { .. })), "{name}");
        }
        #[cfg(feature = "flex")]
        assert!(device("flex").is_ok());
    }
}
