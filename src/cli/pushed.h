/* What a bottle pushed into the host's repository, in a line for each branch. */
#pragma once

/* On standard error: the branches bottle/SLUG/… that have commits which the checkout has not.
 * Nothing for a bottle whose workspace is not a clone. dir: its state folder. */
void pushed_show(int dir, const char *slug);
