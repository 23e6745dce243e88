//! How alike two tiles are: PSNR, SSIM, Wasserstein colour distance.
