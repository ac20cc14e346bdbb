"""What a mask holds on its original slices: voxels in, measurements, lesions and outlines out."""
