"""What `benchmarks/adapter_soak.py` puts around an adapter: disk, archive, modalities, strangers."""
