/*
 * One scene for all tests of a program, whose network is closed, and a container in it for each;
 * with what most of them do with it and expect of it.
 */
#pragma once

#include "container.h"

extern struct scene scene;
extern struct container container;

int fixture_group(void **state);
int fixture_group_end(void **state);
int fixture_test(void **state);
int fixture_test_end(void **state);
#define FIXTURE_TEST(name)                                                                         \
	cmocka_unit_test_setup_teardown(test_##name, fixture_test, fixture_test_end)

/* Skips the test where a container cannot be made. */
void fixture_need(void);
unsigned fixture_uid(void); /* of the agent */
/* The container with this script of a shell's as its agent. */
void fixture_run(const char *script);
/* The container, before its keeper's first word. */
void fixture_start(void);

void expect_said(const char *text);
/* Of process 1, as container_wait() tells it. */
void expect_end(int status);
void expect_dead_soon(int status);

/* A script that tells what its process may do, and what must come of it. */
extern const char fixture_look_around[];
void expect_isolated(void);
