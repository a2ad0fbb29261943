// What the service manager is told (sd_notify(3)); nothing without one, or without libsystemd.
#pragma once

namespace fdbroker::opener {

void service_manager_ready();  // also: the reload is over
void service_manager_reloading();
void service_manager_stopping();

}  // namespace fdbroker::opener
