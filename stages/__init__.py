"""The toolkit that every stage imports: write a stage with what is listed here.

::

    import os, sys
    from stages import Job, main

    def execute(job: Job) -> None:
        ...  # read job.input_dir, write job.output_dir

    if __name__ == "__main__":
        sys.exit(main(execute, sys.argv[1:], os.environ))
"""
