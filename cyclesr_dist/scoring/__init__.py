"""Scores of images: PSNR, SSIM, NTIRE's protocol, and those that need no pairs."""
