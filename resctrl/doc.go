// Package resctrl gives containers a part of the processor's caches and of the
// memory bandwidth (Intel RDT, AMD QoS: linux.intelRdt of the runtime
// specification): decided as a list of directories and writes, applied to the
// kernel's resctrl file system (Documentation/filesystems/resctrl.rst, Linux 4.10).
//
// The file system has one level of groups, each with the schemata of its share
// and the tasks that have it. What a task forks is in its group. Below a group
// mon_groups has groups that only count.
package resctrl
