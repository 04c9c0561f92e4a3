"""Millions of photos through a bundle, on one machine or many, by Ray Data: the extra `ray`.

sources.py   folders, globs, tables and single photos → one photo after another, however many there are
job.py       the folder of a job: the plan (which photo is in which shard), the answers, what is missing
rows.py      an answer as a row; a shard's rows as one Parquet file, whole or not there
photos.py    the bytes of a photo: a file, or an object in a store
worker.py    what each worker does with a shard
run.py       Ray: started here or joined, one worker a CPU, shards handed out until none is missing

A shard has one file of answers, written aside and renamed. So it is done or not, whatever was killed, and no
photo can be lost or stand twice: the plan is made once, before anything is classified, and kept.

Needs the core, ray and pyarrow; no torch.
"""
