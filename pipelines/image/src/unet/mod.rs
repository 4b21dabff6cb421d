//! The denoiser that is a UNet, and ControlNets, which are half of one.
