"""Stages that stay for many jobs: which can, who keeps them, and how a job's stages become orders to them."""
