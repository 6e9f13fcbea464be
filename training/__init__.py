"""Checkpoints out of data: the room where the members of an ensemble are trained.

The files at the top are the commands. They import the standard library only, so `--help` answers at once.
The work is in the packages:

    data/          rows as training sees them: dataset, folds, masked words
    model/         networks and losses, a finished member, calibration
    run/           one run: its recipe, the trainer, the record in its folder
    ensemble/      several members: folds and seeds, their weights in the vote, teachers
    trials/        a search: many runs of one recipe
    experiments/   runs compared with each other, and a study of methods
    augmentation/  new rows from old ones

command.py is the frame of every command, errors.py has every error that a user can fix.
"""
