"""Files of a run: names, checkpoints, manifests, atomic writes, copies at a URI. No torch, no Ray.

run_layout.py         every name in a run directory
run_dirs.py           where runs lie, and the one that began last
run_lock.py           one writer for a run directory
checkpoint.py         checkpoints: saved completely or not at all, verified when read
manifest.py           size and SHA-256 of a checkpoint's files
superseded.py         sets aside what a resumed run does not go on from
pool_table.py         the table of the opponent pool in a checkpoint
json_lines.py         reads a JSON lines file that may still grow
json_lines_writer.py  writes one that stays readable after a crash
result_file.py        the file that `--json` names
atomic_files.py       writes a file such that a crash leaves the old content or the new
remote/               copies at a URI: upload, download, resume
"""
