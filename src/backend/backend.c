#include "backend/backend.h"

#include <stddef.h>

const struct backend *const backend_preference[] = {&backend_docker, &backend_native, NULL};

const struct backend *backend_find(enum plan_backend b)
{
	switch (b) {
	case PLAN_BACKEND_NATIVE:
		return &backend_native;
	case PLAN_BACKEND_DOCKER:
		return &backend_docker;
	case PLAN_BACKEND_SMOLMACHINES:
		return &backend_smolmachines;
	case PLAN_BACKEND_QEMU:
		return &backend_qemu;
	case PLAN_BACKEND_UNSET:
	case PLAN_BACKEND_COUNT:
		break;
	}
	return NULL;
}
