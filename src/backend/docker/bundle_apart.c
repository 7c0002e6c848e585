#include "backend/docker/bundle_apart.h"

#include "backend/docker/bundle_box.h"
#include "base/clean.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

struct bundle_apart {
	struct docker_owner owner;
	struct bundle_box box;
	bool has_come; /* nothing is being made any more */
};

int bundle_apart_offer(char why[BACKEND_WHY_MAX], struct err *e)
{
	return docker_offer(why, e);
}

int bundle_apart_ensure(const struct progress *progress, struct err *e)
{
	struct image_info info;
	struct engine en;
	int ret = docker_engine(&en, e);

	return ret == 0 ? image_ensure_bundle(&en, progress, &info, e) : ret;
}

int bundle_apart_make(struct bundle_apart **out, const struct plan *p, const char *state_dir,
		      struct backend_place *place, struct err *e)
{
	struct bundle_apart *a = mem_zalloc(sizeof(*a));
	struct docker_net *const nets[] = {&a->box.outer};
	int ret;

	*out = a;
	docker_owner_init(&a->owner, p->slug, state_dir);
	bundle_box_init(&a->box, &a->owner, p, NULL);
	ret = docker_owner_begin(&a->owner, e);
	if (ret == 0)
		ret = docker_begin_networks(&a->owner, nets, ARRAY_LEN(nets), e);
	/* While the engine makes it. */
	if (ret == 0)
		ret = bundle_box_place(&a->box, e);
	if (ret == 0)
		ret = bundle_box_find_image(&a->box, e);
	/* The container is made in it. */
	if (ret == 0)
		ret = docker_end_network(&a->owner, &a->box.outer, e);
	if (ret == 0)
		ret = bundle_box_begin(&a->box, e);
	if (ret == 0)
		ret = bundle_box_run(&a->box, e);
	return ret == 0 ? bundle_box_fill(&a->box, place, e) : ret;
}

int bundle_apart_start(struct bundle_apart *a, const struct backend_fd *fds, size_t n,
		       struct err *e)
{
	struct docker_arrival init = bundle_box_arrival(&a->box);
	int ret = bundle_box_start(&a->box, fds, n, e);

	if (ret == 0)
		ret = docker_await_all(&init, 1, e);
	a->has_come = ret == 0;
	return ret;
}

void bundle_apart_reap(struct bundle_apart *a, bool must_die, char *how, size_t how_size)
{
	bundle_box_reap(&a->box, must_die, how, how_size);
}

bool bundle_apart_release(struct bundle_apart *a)
{
	struct docker_known known;
	bool is_all;

	if (!a)
		return true;
	bundle_box_settle(&a->box);
	bundle_box_close(&a->box);
	known = (struct docker_known){{a->box.id}, {a->box.outer.id}};
	is_all = docker_owner_release(&a->owner, &known, a->has_come);
	free(a);
	return is_all;
}
