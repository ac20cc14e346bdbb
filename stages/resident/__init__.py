"""A process that stays for many jobs: it takes orders from a folder and forks a process for each."""
